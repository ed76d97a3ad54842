# One image for every process of the fleet: migrate, dispatcher, worker, flower, emulator (see docker-compose.yml).
# What it is built on, by its digest where you know it: `docker build --build-arg PYTHON=python:3.12-slim@sha256:… .`
ARG PYTHON=python:3.12-slim
FROM ${PYTHON}

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# Plans, ownership files and exports lie under /files; a volume mounted there takes over its owner.
RUN useradd --uid 1000 --user-group --create-home vecfleet && install -d -o vecfleet -g vecfleet /files /data

WORKDIR /app
# What runs and nothing that tests; every file by its hash.
COPY image.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r image.lock
COPY . ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e . \
    && install -m 755 bin/vecfleet /usr/local/bin/vecfleet \
    && python -m compileall -q emulator migrations orchestrator vecfleet workers

USER 1000:1000
CMD ["vecfleet", "--help"]
