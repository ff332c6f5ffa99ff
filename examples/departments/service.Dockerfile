# The producer or the consumer, as ECS runs it. Built from the root of the repository, once for each:
#   docker build --platform linux/arm64 --build-arg PROGRAM=producer --file examples/departments/service.Dockerfile --tag producer .

FROM python:3.13.1-slim-bookworm AS build

COPY constraints/build.txt examples/departments/service.requirements.txt /build/
RUN python -m venv /builder && \
    /builder/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /build/build.txt && \
    python -m venv /programs && \
    /programs/bin/pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: --requirement /build/service.requirements.txt
WORKDIR /build/lacre
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN /builder/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /build/wheels . && \
    /programs/bin/pip install --no-cache-dir --no-compile --no-index --no-deps /build/wheels/*.whl

FROM python:3.13.1-slim-bookworm

ARG PROGRAM
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin program
COPY --from=build /programs /programs
COPY examples/departments /application/departments
WORKDIR /application
# A program that is not there is found here, and not by a task that ends as soon as it begins.
RUN test -f "departments/${PROGRAM}.py"

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PROGRAM=${PROGRAM}
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/bin/sh", "-c", "exec /programs/bin/python -m departments.${PROGRAM}"]
