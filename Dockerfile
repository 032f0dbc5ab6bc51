# The service, with its PostgreSQL and Redis clients. Small: what builds it stays behind.
FROM python:3.12-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/allocation
COPY requirements/server.lock requirements/
RUN pip --python /opt/allocation/bin/python install --require-hashes --requirement requirements/server.lock
COPY setup.py ./
COPY src src
RUN pip --python /opt/allocation/bin/python install --no-deps --no-build-isolation . \
    && pip --python /opt/allocation/bin/python uninstall --yes setuptools

FROM python:3.12-slim

# /data is for the embedded default, a SQLite file: mount a volume there, or name a PostgreSQL.
RUN install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/allocation /opt/allocation
ENV PATH=/opt/allocation/bin:$PATH PYTHONUNBUFFERED=1 ALLOCATION_HOST=0.0.0.0 ALLOCATION_PORT=5005
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 5005

HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=6 CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"ALLOCATION_PORT\"]}/health/ready', timeout=3)"]

# SIGTERM, which `docker stop` sends, lets the service finish what it has begun.
CMD ["allocation", "serve"]
