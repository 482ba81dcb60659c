# bench on CPUs, run by a user without privileges.
#
#     docker build -t bench .
#     docker run --rm bench doctor
#     docker run --rm -v bench-runs:/work -v bench-cache:/home/bench/.cache --memory 8g --pids-limit 512 \
#         bench run -m base -m corp -t humaneval
#
# Once models and data are in the cache (bench prepare -M smollm2-135m -t humaneval), add --network none.
#
# The sandbox needs Linux 5.13 or newer on x86-64 or AArch64, and a runtime whose profile lets a process restrict itself
# with Landlock and seccomp. It needs no root, no capabilities and no user namespaces: do not run this with --privileged.
# `bench doctor` reports, from inside the container, which layers hold. Tasks that judge programs are refused below
# split+seccomp. See docs/sandbox.md.

FROM python:3.11-slim AS build
# One package behind reasoning-gym is compiled from source.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# An index that serves torch's CPU builds.
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/bench \
    && /opt/bench/bin/pip install --no-cache-dir --extra-index-url "$TORCH_CPU_INDEX" \
        -c requirements/cpu.txt '.[local,tasks,train]'

FROM python:3.11-slim
COPY --from=build /opt/bench /opt/bench
# Volumes mounted at these two folders take over their owner.
RUN useradd --create-home --uid 1000 bench \
    && install -d -o bench -g bench /work /home/bench/.cache
ENV PATH=/opt/bench/bin:$PATH
USER bench
WORKDIR /work
ENTRYPOINT ["bench"]
CMD ["doctor"]
