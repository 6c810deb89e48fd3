# The worker's image: the one binary, no shell entry point, no sandbox.
FROM rust:1-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# Dependencies in a layer of their own: it is built again only when the manifest or the lock file changes.
# Every target that the manifest names must be there, or cargo does not read it.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin/irp-sandbox benches \
 && touch src/lib.rs benches/irp_sandbox.rs \
 && echo 'fn main() {}' | tee src/main.rs > src/bin/irp-sandbox/main.rs \
 && cargo build --release --locked --bin irn-worker \
 && rm -rf src

COPY src src
# Compiled in.
COPY config/rules.toml config/rules.toml
# cargo compares modification times, and the copied files may be older than the empty ones just built.
RUN find src -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --bin irn-worker

FROM debian:bookworm-slim
# Root certificates for amqps and the portal; time zones are compiled in.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin irn-worker
COPY --from=build /build/target/release/irn-worker /usr/local/bin/irn-worker
USER 10001:10001
WORKDIR /etc/irn-worker
# Mount config/worker.toml, the credentials and the portal's keys below this folder; see README.md.
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/irn-worker"]
CMD ["run"]
