# The suite, for scheduled runs against a deployed target: arguments after the image's name go to pytest or, with
# --entrypoint mlflow-proxy-e2e, to that command: check, sweep and so on.
#
#   docker build --tag mlflow-proxy-e2e .
#   docker run --rm --read-only --tmpfs /tmp --tmpfs /state:uid=10001 --env E2E_KEY_PLATFORM --env E2E_KEY_READER \
#     --volume "$PWD/targets:/profiles:ro" mlflow-proxy-e2e -m smoke --target=/profiles/staging.toml
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE} AS build
WORKDIR /suite
COPY pyproject.toml README.md LICENSE ./
COPY mlflow_api_key mlflow_api_key
COPY mlflow_proxy_e2e mlflow_proxy_e2e
COPY tests/__init__.py tests/__init__.py
COPY tests/e2e tests/e2e
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --quiet '.[suite]' \
 && /opt/venv/bin/pip uninstall --quiet --yes pip

FROM ${BASE}
# Nothing but the volumes is written to. As volumes, they belong to the user even if the file system is read-only and a platform
# mounts empty ones.
RUN useradd --uid 10001 --no-create-home suite && install --directory --owner suite /profiles /state
COPY --from=build /opt/venv /opt/venv
# The folder of the installed tests, where pytest finds them by itself.
RUN ln -s "$(/opt/venv/bin/python -I -c 'from mlflow_proxy_e2e.suite_folder import ROOT; print(ROOT)')" /suite
WORKDIR /suite
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp XDG_STATE_HOME=/state PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME ["/tmp", "/state"]
USER 10001
# Ctrl-C's signal: the run removes what it has created before it ends.
STOPSIGNAL SIGINT
ENTRYPOINT ["pytest"]
CMD ["--help"]
