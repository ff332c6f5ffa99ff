# The generator, as Lambda runs it. Built from the root of the repository:
#   docker build --platform linux/arm64 --file examples/departments/generator.Dockerfile --tag generator .

FROM python:3.13.1-slim-bookworm AS build

RUN python -m venv /programs
COPY examples/departments/generator.requirements.txt /build/requirements.txt
RUN /programs/bin/pip install --no-cache-dir --no-compile --require-hashes --only-binary :all: --requirement /build/requirements.txt

FROM python:3.13.1-slim-bookworm

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin program
COPY --from=build /programs /programs
COPY examples/departments/__init__.py examples/departments/generator.py /application/departments/

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /application
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/programs/bin/python", "-m", "awslambdaric"]
CMD ["departments.generator.handle"]
