# Two images from one file:
#   docker build --target service -t model-audit-service .
#   docker build --target worker  -t model-audit-worker .
# The service has neither torch nor numpy. The worker has torch for the CPU, unless
# TORCH_INDEX_URL says otherwise; see docs/deployment.md.

ARG BASE_IMAGE=python:3.12-slim-bookworm


# What both images stand on: Python, a user without rights, a folder for data.
FROM ${BASE_IMAGE} AS base

RUN groupadd --gid 10001 audit \
 && useradd --uid 10001 --gid audit --home-dir /data --no-create-home --shell /usr/sbin/nologin audit \
 && install --directory --owner=audit --group=audit --mode=0750 /data

ENV PATH=/opt/model-audit/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODEL_AUDIT_DATA_DIR=/data

WORKDIR /data
VOLUME /data
USER 10001:10001
ENTRYPOINT ["model-audit"]


# The libraries change seldom, the code often: each has a layer of its own, so that a
# new release does not move torch again.
FROM ${BASE_IMAGE} AS service-libraries

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv --without-pip /opt/model-audit
COPY pyproject.toml constraints.txt ./
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*project["dependencies"], sep="\n")' > requirements.txt \
 && python3 -m pip --python /opt/model-audit/bin/python install --constraint constraints.txt --requirement requirements.txt


FROM service-libraries AS worker-libraries

# Where torch itself comes from; all else comes from the usual index. Empty: from there
# too, which for Linux is the build with CUDA.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN if [ -n "${TORCH_INDEX_URL}" ]; then \
      python3 -m pip --python /opt/model-audit/bin/python install --no-deps --index-url "${TORCH_INDEX_URL}" \
        --constraint constraints.txt torch; \
    fi \
 && python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*project["optional-dependencies"]["worker"], sep="\n")' > requirements.txt \
 && python3 -m pip --python /opt/model-audit/bin/python install --constraint constraints.txt --requirement requirements.txt


FROM service-libraries AS code

COPY README.md ./
COPY docs/causes docs/causes
COPY service service
COPY worker worker
RUN PIP_CONSTRAINT=constraints.txt python3 -m pip --python /opt/model-audit/bin/python install --no-deps --root /code .


FROM base AS worker

COPY --from=worker-libraries /opt/model-audit /opt/model-audit
COPY --from=code /code /
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s --retries=3 \
  CMD ["model-audit", "health", "worker"]
CMD ["worker"]


# Last, so that it is what `docker build .` makes.
FROM base AS service

COPY --from=service-libraries /opt/model-audit /opt/model-audit
COPY --from=code /code /
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 \
  CMD ["model-audit", "health", "service"]
CMD ["serve", "--host", "0.0.0.0", "--no-worker", "--no-scheduler"]
