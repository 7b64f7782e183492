# The image in which every step of a compiled pipeline runs.
#
#   docker build -t REGISTRY/branchline:1 .                                 TFX 1.16, CPU
#   docker build -t REGISTRY/branchline:1-gpu --build-arg EXTRAS="--extra gpu" .
#   docker build -t REGISTRY/branchline:1 --build-arg PYTHON=3.12.12 .      TFX 1.21
#
# One base serves both lines: Python's official image brings any Python, and Debian 13 the glibc
# (2.41) that TFX 1.21 needs. The slim one has no compiler; TFDV's pyfarmhash has no wheel and needs
# one, so what is built is built on the full one. CUDA comes from uv.lock, as wheels, so the GPU
# image has the same base. BUILDER, BASE and UV may name a mirror or a digest.
ARG PYTHON=3.10.19
ARG BUILDER=python:${PYTHON}-trixie
ARG BASE=python:${PYTHON}-slim-trixie
ARG UV=ghcr.io/astral-sh/uv:0.13.8

FROM ${UV} AS uv

# What uv.lock says and nothing else, apart from the code: a layer that changes with uv.lock only.
FROM ${BUILDER} AS dependencies
COPY --from=uv /uv /usr/local/bin/uv
# By hash and unchecked: without valid bytecode TFX takes 43 s to import, and builders may set the
# times of files anew.
ENV UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
WORKDIR /build
COPY pyproject.toml uv.lock ./
ARG EXTRAS=""
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-install-project --extra kubeflow ${EXTRAS}

# The wheel, built with the setuptools of uv.lock. The links in branchline/ are made folders, so a
# checkout without links (on Windows, in an archive) gives the same wheel.
FROM dependencies AS wheel
COPY README.md LICENSE ./
COPY branchline/__init__.py branchline/py.typed branchline/
COPY components branchline/components
COPY pipeline branchline/pipeline
COPY schemas branchline/schemas
RUN uv build --wheel --no-build-isolation --offline --python /opt/venv --out-dir /build/dist

FROM ${BASE} AS runtime
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,target=/wheel \
    /wheel/usr/local/bin/uv pip install --no-deps --no-index --no-cache \
      --python /opt/venv /wheel/build/dist/branchline-*.whl \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      /opt/venv/lib/python3.*/site-packages/branchline
# KFP's launcher puts artifacts under the first three; newer ones mount volumes there. Any user may
# write: OpenShift picks a uid. Recipe files of one's own belong in /recipes.
RUN install -d -m 1777 /s3 /minio /gcs && install -d -m 0755 /recipes

# A uid without a name has no home and no entry in /etc/passwd: HOME and USER stand in for them.
# NVIDIA_VISIBLE_DEVICES is left to Kubernetes: set here, it would show all GPUs of a node to every
# step that asked for none (https://github.com/NVIDIA/k8s-device-plugin/issues/61).
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    USER=branchline \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:0
RUN python -m branchline.pipeline.kubeflow.step.check_image
# No ENTRYPOINT: Kubeflow says what runs.
CMD ["python", "-m", "branchline.pipeline.kubeflow.step.check_image"]

ARG REVISION=""
LABEL org.opencontainers.image.title="branchline" \
      org.opencontainers.image.description="Runs the steps of branchline's pipelines on Kubeflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
