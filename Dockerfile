# One image for every process of the fleet: migrate, dispatcher, worker, flower, emulator (see docker-compose.yml).
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# Plans, ownership files and exports lie under /files; a volume mounted there takes over its owner.
RUN useradd --create-home vecfleet && install -d -o vecfleet -g vecfleet /files /data

WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.lock
COPY . ./
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e . \
    && install -m 755 bin/vecfleet /usr/local/bin/vecfleet

USER vecfleet
CMD ["vecfleet", "--help"]
