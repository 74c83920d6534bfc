# syntax=docker/dockerfile:1
#
#     docker build -t motorcade .
#     docker run --rm -v motorcade:/data motorcade init
#     docker run -d --name motorcade -p 8080:8080 -v motorcade:/data motorcade
#     docker exec motorcade motorcade token create --role uploader
#
# No key, token or state is ever in the image: all of it is made in the volume by `motorcade init`.
#
# Where no registry can be reached, scripts/container builds it from Debian's packages and a binary that is there.

# What is under the binary, and whose: `build` compiles it, `prebuilt` takes target/release/motorcade.
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
ARG BINARY=build

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src

# The packages first, against empty crates: this layer is built again only when a Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY bench/Cargo.toml bench/Cargo.toml
COPY crates/envelope/Cargo.toml crates/envelope/Cargo.toml
COPY crates/host/Cargo.toml crates/host/Cargo.toml
COPY crates/model/Cargo.toml crates/model/Cargo.toml
COPY crates/uptane/Cargo.toml crates/uptane/Cargo.toml
COPY crates/vehicle/Cargo.toml crates/vehicle/Cargo.toml
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && for crate in crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
    && mkdir bench/src && echo 'fn main() {}' > bench/src/main.rs \
    && echo 'fn main() {}' > crates/vehicle/src/main.rs && echo 'fn main() {}' > crates/host/build.rs \
    && mkdir crates/envelope/benches && touch crates/envelope/benches/envelope.rs \
    && cargo build --release --locked --bin motorcade \
    && rm -r src crates/*/src crates/host/build.rs

COPY metadata metadata
COPY migrations migrations
COPY build.rs build.rs
COPY crates crates
COPY src src
# The copied files can be older than what the empty crates were built from, and cargo compares times.
RUN touch src/main.rs src/lib.rs crates/*/src/lib.rs crates/host/build.rs && cargo build --release --locked --bin motorcade

FROM ${BASE_IMAGE} AS prebuilt
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
COPY target/release/motorcade /src/target/release/motorcade

FROM ${BINARY} AS binary

# The binary needs the C library, libm and libgcc_s, and this image has all three.
FROM ${BASE_IMAGE}
COPY --from=binary /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary /src/target/release/motorcade /usr/local/bin/motorcade
# Numeric, so that Kubernetes' runAsNonRoot can check it. A new volume takes owner and mode from this folder.
RUN install -d -o 10001 -g 10001 -m 0750 /data
USER 10001:10001
VOLUME /data
# Settings rather than flags, so that every subcommand has them and `-e` can change them.
ENV MOTORCADE_DATA_DIR=/data MOTORCADE_LISTEN=0.0.0.0:8080
EXPOSE 8080
# There is no curl here. Kubernetes does not read this: give it httpGet probes on /healthz and /readyz.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '200 OK' <&3"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["motorcade"]
CMD ["serve"]
