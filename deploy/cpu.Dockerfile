# The tested CPU stack: what `make setup` installs, without the development tools. From the root of the project:
#   docker build -f deploy/cpu.Dockerfile -t registry.example.com/agrl:cpu .
FROM python:3.11.11-slim-bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# g++: DeepSpeed compiles a small operator; wget: KubeRay's probes; libnuma1, libgomp1: vLLM
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libgomp1 libnuma1 procps wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 agrl
USER 1000
WORKDIR /home/agrl/code
# the last: memory of weights that all engines have taken is free at once, and warm for the next (docs/performance.md)
ENV PATH=/home/agrl/venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0 \
    RAY_free_objects_period_milliseconds=0

# what changes least comes first: torch, the pinned list, then this project
RUN python -m venv /home/agrl/venv \
    && pip install --no-cache-dir --no-deps torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
COPY --chown=agrl requirements/cpu.txt requirements/cpu.txt
RUN pip install --no-cache-dir --no-deps -r requirements/cpu.txt
COPY --chown=agrl pyproject.toml README.md LICENSE ./
COPY --chown=agrl agrl agrl
COPY --chown=agrl actors actors
COPY --chown=agrl learner learner
COPY --chown=agrl replay replay
COPY --chown=agrl conf conf
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && DS_ACCELERATOR=cpu python -c 'from learner.engine import compile_operators; compile_operators()'
WORKDIR /home/agrl
CMD ["agrl", "--help"]
