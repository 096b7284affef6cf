# One image for api, worker, scheduler and migrate: docker-compose.yml names the commands.

FROM python:3.11-slim AS packages
RUN python -m venv /opt/venv
COPY requirements.txt requirements-otel.txt ./
# --build-arg REQUIREMENTS=requirements-otel.txt: with what traces need (LLM_SERVICE_TRACES_URL).
ARG REQUIREMENTS=requirements.txt
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt -r $REQUIREMENTS

FROM python:3.11-slim
# Metrics of the processes of one container are added up in /run/llm-service: a tmpfs where the root is read-only.
RUN groupadd --gid 10001 llm-service \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin llm-service \
    && install -d -o 10001 -g 10001 -m 0700 /run/llm-service
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PROMETHEUS_MULTIPROC_DIR=/run/llm-service \
    dramatiq_prom_db=/run/llm-service \
    LLM_SERVICE_BIND=0.0.0.0:8000 \
    LLM_SERVICE_LOG_FORMAT=json
WORKDIR /srv/llm-service
COPY --from=packages /opt/venv /opt/venv
COPY migrations migrations
COPY core core
COPY app app
COPY workers workers
COPY scheduler scheduler
COPY launcher/__init__.py launcher/health.py launcher/local_http.py launcher/
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["gunicorn", "-c", "app/gunicorn_conf.py", "app.wsgi:app"]
