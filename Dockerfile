# The command in an image of its own:
#   docker build -t whorl . && docker run --rm whorl doctor
# Containers that share channels share an ipc-capable runtime directory: mount one, and set XDG_RUNTIME_DIR.
FROM rust:1-slim AS build
WORKDIR /src
COPY . .
RUN packaging/static /out

FROM debian:stable-slim
COPY --from=build /out/shell /usr/local/bin/shell
RUN ln -s shell /usr/local/bin/whorl
ENTRYPOINT ["shell"]
CMD ["--help"]
