# For NVIDIA GPUs: vLLM's CUDA 13 build and the direct dependencies at the versions of the tested stack. Not built yet: it
# wants a machine with Docker and 30 GB. From the root of the project:
#   docker build -f deploy/gpu.Dockerfile -t registry.example.com/agrl:gpu .
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# the devel image, g++ and Python's headers: vLLM and DeepSpeed compile kernels where they run; wget: KubeRay's probes
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libnuma1 procps python3.12-dev python3.12-venv wget \
    && rm -rf /var/lib/apt/lists/* \
    && (userdel --remove ubuntu || true) \
    && useradd --create-home --uid 1000 agrl
USER 1000
WORKDIR /home/agrl/code
# the last: memory of weights that all engines have taken is free at once, and warm for the next (docs/performance.md)
ENV PATH=/home/agrl/venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0 \
    RAY_free_objects_period_milliseconds=0

COPY --chown=agrl requirements/gpu.txt requirements/gpu.txt
RUN python3.12 -m venv /home/agrl/venv && pip install --no-cache-dir -r requirements/gpu.txt
COPY --chown=agrl pyproject.toml README.md LICENSE ./
COPY --chown=agrl agrl agrl
COPY --chown=agrl actors actors
COPY --chown=agrl learner learner
COPY --chown=agrl replay replay
COPY --chown=agrl conf conf
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
WORKDIR /home/agrl
CMD ["agrl", "--help"]
