# docker build -t vqcodec .                           CPU
# docker build -t vqcodec:cuda --build-arg TORCH=cuda .   NVIDIA GPUs (run with --gpus all)
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" vqcodec encode photo.png
FROM python:3.12-slim

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# torch stands in a layer of its own: it is large and changes seldom.
RUN case "$TORCH" in \
      cpu) pip install --index-url https://download.pytorch.org/whl/cpu 'torch>=2.6,<2.14' ;; \
      cuda) pip install 'torch>=2.6,<2.14' ;; \
      *) echo "TORCH is cpu or cuda, not '$TORCH'" >&2; exit 2 ;; \
    esac

COPY pyproject.toml hatch_build.py README.md LICENSE /src/
COPY vqcodec /src/vqcodec
COPY models /src/models
COPY recipes /src/recipes
RUN pip install /src && rm -rf /src
COPY tests/golden/photo-2/grey-17x9.vqc /usr/local/share/vqcodec/sound.vqc

RUN useradd --create-home --uid 1000 vqcodec && install -d -o vqcodec /data
USER vqcodec
WORKDIR /data
# The default codec loads and decodes a file of an earlier release; it takes some 3 s.
HEALTHCHECK --interval=10m --timeout=1m --start-period=10s \
    CMD ["vqcodec", "verify", "--quiet", "/usr/local/share/vqcodec/sound.vqc"]
ENTRYPOINT ["vqcodec"]
CMD ["--help"]
