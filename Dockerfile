# One image for a rented machine with one or more NVIDIA GPUs; the CPU demo runs in it too.
#   docker build -t mathrl-tui .
#   docker run --gpus all --ipc=host -it -v $PWD/artifacts:/srv/artifacts -v ~/.cache/huggingface:/root/.cache/huggingface mathrl-tui
# --ipc=host: weights travel from trainer to worker through /dev/shm, and Docker's own 64 MB would not hold them.
# The first process stays as long as a run lives, also when the console is closed or after `run --detach`, and passes
# SIGTERM on (mathrl_tui/first_process.py). No other init is needed; with `docker run --init` it does the same.
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git libnuma1 tmux openssh-client \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/mathrl-tui
COPY pyproject.toml README.md LICENSE ./
COPY mathrl_tui mathrl_tui
COPY engine engine
COPY profiles profiles
COPY store store
RUN pip install --no-cache-dir '.[gpu]'

WORKDIR /srv
ENV MATHRL_HOME=/srv/artifacts
ENTRYPOINT ["mathrl-tui"]
