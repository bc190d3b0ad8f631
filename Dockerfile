# The command in an image of its own:
#   docker build -t whorl . && docker run --rm whorl doctor
# Containers meet at the channels of one runtime directory. Mount the same directory into each, and name it by XDG_RUNTIME_DIR:
#   docker run --rm -v /run/user/1000:/run/user/1000 -e XDG_RUNTIME_DIR=/run/user/1000 -u 1000 whorl ls
FROM rust:1-slim AS build
WORKDIR /src
COPY . .
RUN packaging/static /out

FROM debian:stable-slim
COPY --from=build /out/shell /usr/local/bin/shell
RUN ln -s shell /usr/local/bin/whorl
ENTRYPOINT ["shell"]
CMD ["--help"]
