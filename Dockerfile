# The worker's image: the one binary and what it is linked with, no shell, no package manager, a fixed user.
# docs/deploying.md says how to run it, and scripts/image-check builds it and runs it under those restrictions.
#
#   docker build -t irn-worker .                            the worker
#   docker build -t irp-sandbox --target irp-sandbox .      the simulated portal, for config/compose.yaml
#
# Pin it by digest, or name a mirror of yours. Its libc and certificates are the ones that the worker is shipped with.
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm

# Dependencies in layers of their own: they are built again only when the manifest or the lock file changes. Benchmarks
# and tests are not part of the image, and cargo refuses a manifest with a target that it cannot find.
FROM ${RUST_IMAGE} AS dependencies
WORKDIR /build
# The allocator is built with it.
# hadolint ignore=DL3008
RUN command -v make >/dev/null \
 || { apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*; }
COPY Cargo.toml Cargo.lock ./
# hadolint ignore=DL4006
RUN awk '/^\[/ { cut = /^\[\[(bench|test)\]\]/ } !cut' Cargo.toml >trimmed && mv trimmed Cargo.toml \
 && mkdir -p src/bin/irp-sandbox src/layout \
 && touch src/lib.rs \
 && echo 'fn main() {}' | tee src/main.rs src/layout/build.rs >src/bin/irp-sandbox/main.rs \
 && cargo build --release --locked --bin irn-worker \
 && rm -r src

FROM dependencies AS build
COPY src src
# Compiled in.
COPY config/rules.toml config/rules.toml
# cargo compares modification times, and the copied files may be older than the empty ones just built.
# Without the tables of line numbers a quarter is left; a backtrace still names functions.
RUN find src -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --bin irn-worker \
 && strip --strip-debug -o /irn-worker target/release/irn-worker

# What the binary needs around it: the libraries it is linked with, root certificates for amqps and the portal, a user's
# name, and which Debian packages these come from, where scanners look for it. Time zones are compiled in.
FROM build AS root
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN mkdir -p /root-image/etc/irn-worker /root-image/etc/ssl/certs /root-image/var/lib/dpkg/status.d \
 && ldd /irn-worker | awk '{ for (i = 1; i <= NF; i++) if ($i ~ "^/") print $i }' \
    | xargs cp --dereference --parents --target-directory=/root-image \
 && cp /etc/ssl/certs/ca-certificates.crt /root-image/etc/ssl/certs/ \
 && cp --dereference --parents --target-directory=/root-image /etc/os-release \
 && echo 'irn-worker:x:10001:10001::/nonexistent:/usr/sbin/nologin' >/root-image/etc/passwd \
 && echo 'irn-worker:x:10001:' >/root-image/etc/group \
 && echo 'hosts: files dns' >/root-image/etc/nsswitch.conf \
 && for package in libc6 libgcc-s1 ca-certificates; do \
      dpkg-query --status "$package" >"/root-image/var/lib/dpkg/status.d/$package"; \
    done

FROM build AS build-sandbox
RUN cargo build --release --locked --bin irp-sandbox \
 && strip --strip-debug -o /irp-sandbox target/release/irp-sandbox \
 && mkdir /state

# The simulated portal. Its folder is the only place it writes to: the keys that it makes at its first start.
FROM scratch AS irp-sandbox
COPY --from=root /root-image /
COPY --from=build-sandbox /irp-sandbox /usr/local/bin/irp-sandbox
COPY --from=build-sandbox --chown=10001:10001 /state /var/lib/irp-sandbox
LABEL org.opencontainers.image.title="irp-sandbox" \
      org.opencontainers.image.description="A simulated Invoice Registration Portal, for tests of irn-worker" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
USER 10001:10001
EXPOSE 7443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/irp-sandbox"]

FROM scratch AS irn-worker
COPY --from=root /root-image /
COPY --from=build /irn-worker /usr/local/bin/irn-worker
# What the build was made of: --build-arg VERSION=… REVISION=… CREATED=… (RFC 3339).
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="irn-worker" \
      org.opencontainers.image.description="A RabbitMQ batch worker that turns invoice jobs into signed e-invoices at India's Invoice Registration Portal" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
USER 10001:10001
# Mount worker.toml, the credentials and the portal's keys at /etc/irn-worker/config.
WORKDIR /etc/irn-worker
EXPOSE 9464
STOPSIGNAL SIGTERM
# Alive, not ready: a portal that is down is no cause to restart a worker.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/local/bin/irn-worker", "health"]
ENTRYPOINT ["/usr/local/bin/irn-worker"]
CMD ["run"]
