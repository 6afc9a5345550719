# For any CPU.
#
#   docker build -t faceembed .
#   docker run --rm --cpus=2 -v ~/Pictures:/photos:ro -v faceembed:/data faceembed embed /photos -o people.faiss
#   docker run --rm -p 8000:8000 -e FACEEMBED_API_KEY -v faceembed:/data faceembed serve --host 0.0.0.0 --index people.faiss
#
# As many workers run as --cpus leaves cores. The image holds the models: no container needs the network.

FROM debian:bookworm-slim AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/faceembed \
 && /opt/faceembed/bin/pip install --no-cache-dir ".[cpu,heif,jxl,project,raw,serve,video]"

FROM debian:bookworm-slim
# Python alone: versions are not pinned, as Debian's security updates are to come with each build.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home faceembed \
 && install -d -o faceembed -g faceembed /data
COPY --from=build /opt/faceembed /opt/faceembed
ENV PATH=/opt/faceembed/bin:$PATH \
    FACEEMBED_HOME=/data/.faceembed
USER 1000
WORKDIR /data
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["faceembed"]
CMD ["--help"]
