# pushserver, without a shell's help: `docker run IMAGE serve`, `docker run IMAGE consume`.
#
#   docker build --tag pushserver .
#
# docs/deploying.md says what it needs to start. Nothing secret belongs in here.

# The Python that the tests run on.
ARG PYTHON_VERSION=3.11

# Everything that is built is built here, compilers included where no wheel fits the platform.
FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY setup.py setup.cfg README.md LICENSE ./
COPY pushserver ./pushserver
RUN python -m pip wheel --wheel-dir /wheels ".[postgres]"
RUN python -m venv --without-pip /opt/pushserver && \
    python -m pip --python /opt/pushserver/bin/python install --no-index --find-links /wheels "pushserver[postgres]"

FROM python:${PYTHON_VERSION}-slim
LABEL org.opencontainers.image.title="pushserver" \
      org.opencontainers.image.description="A WebSocket push server with an offline inbox and proof of delivery" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/pushserver /opt/pushserver
# In a container there is no development mode, and whoever reaches it comes from outside.
ENV PATH=/opt/pushserver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PUSHSERVER_POD__PRODUCTION=true \
    PUSHSERVER_SERVER__HOST=0.0.0.0 \
    PUSHSERVER_ADMIN__HOST=0.0.0.0 \
    PUSHSERVER_CONSUME__HOST=0.0.0.0 \
    PUSHSERVER_LOGGING__FORMAT=json
# Only a consumer with SQLite writes, below /data: mount a volume there. The rest may be read-only.
RUN mkdir /data && chown 10001:10001 /data
WORKDIR /data
USER 10001:10001
# Clients; back ends, probes and metrics; the consumer's probes and metrics.
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
# Of a pod. For a consumer the same with port 8002.
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8001, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["pushserver"]
CMD ["serve"]
