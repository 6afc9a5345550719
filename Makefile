.PHONY: help types check native docs
help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'
types:  ## let mypy and pyright see engine/, trainer/, cli/ as faceembed.*
	mkdir -p build/types/faceembed
	ln -sfn $(CURDIR)/engine $(CURDIR)/trainer $(CURDIR)/cli $(CURDIR)/src/faceembed/* build/types/faceembed/
docs: types  ## build the documentation's site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
check: types  ## lint, types, tests
	ruff check . && ruff format --check . && mypy && pytest
native:  ## build and run the C++ tests
	cmake -S . -B build/native -DFACEEMBED_TESTS=ON && cmake --build build/native && ctest --test-dir build/native --output-on-failure
