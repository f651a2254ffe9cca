# docker build -t cryo-fewshot . && docker run --rm -v "$PWD/results:/book/results" cryo-fewshot
# runs every experiment that is not stored, and builds the book. Other targets: docker run ... cryo-fewshot make test
FROM python:3.11-slim-bookworm
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends make git chromium \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /book
# The environment first: it changes less often than the code.
COPY pyproject.toml requirements.lock requirements.hashes.lock README.md LICENSE Makefile ./
COPY cryo_fewshot ./cryo_fewshot
RUN make setup HASHES=1
COPY . .
CMD ["make", "reproduce"]
