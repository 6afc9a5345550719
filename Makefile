.PHONY: help types contracts check native docs wheel
help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'
types:  ## put back the links of typings/ where a checkout has none (from a zip, or on Windows)
	mkdir -p typings/faceembed
	cd typings/faceembed && ln -sfn ../../engine ../../trainer ../../cli ../../src/faceembed/*.* .
contracts:  ## which room may import which, as pyproject.toml says
	python .ci/contracts
docs:  ## build the documentation's site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict  # not --quiet: what is not said is not counted, and nothing would be strict
wheel:  ## a wheel for this Linux in dist/, tried without a compiler
	.ci/wheel
check: contracts  ## lint, types, contracts, tests
	ruff check . && ruff format --check . && mypy && pytest -n 2 --dist loadfile
native:  ## build and run the C++ tests
	cmake -S . -B build/native -DFACEEMBED_TESTS=ON && cmake --build build/native && ctest --test-dir build/native --output-on-failure
