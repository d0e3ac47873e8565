# One image for a rented machine with one or more NVIDIA GPUs; the CPU demo runs in it too.
#   docker build -t mathrl-tui .
#   docker run --gpus all --ipc=host -it -v $PWD/artifacts:/srv/artifacts -v ~/.cache/huggingface:/root/.cache/huggingface mathrl-tui
# --ipc=host: weights travel from trainer to worker through /dev/shm, and Docker's own 64 MB would not hold them.
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
