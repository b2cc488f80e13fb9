# The sensor alone: about the size of Debian's slim image. Needs the right to capture and the host's network:
#   docker run --rm --network host --cap-drop ALL --cap-add NET_RAW halfopen run -i eth0

FROM rust:1-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcap2-bin libpcap-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked \
    && strip --strip-debug -o /halfopen target/release/halfopen \
    && setcap cap_net_raw+ep /halfopen

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="halfopen" \
      org.opencontainers.image.description="SYN flood detector and embryonic-connection monitor" \
      org.opencontainers.image.licenses="MIT"
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpcap0.8 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10793 --no-create-home --shell /usr/sbin/nologin halfopen \
    && install --directory --owner halfopen --group halfopen --mode 0700 /var/lib/halfopen
# The capability is an attribute of the file and is copied with it. Where a container has all capabilities dropped, the kernel
# refuses to start such a file ("operation not permitted"): add NET_RAW, as above.
COPY --from=build /halfopen /usr/local/bin/halfopen
USER halfopen
EXPOSE 10793
# Where the health check asks; set it where --web.listen-address is another. It needs no password, and finds out itself whether the
# sensor speaks TLS.
ENV HALFOPEN_HEALTH_ADDRESS=127.0.0.1:10793
HEALTHCHECK --interval=30s --timeout=8s --start-period=5s CMD halfopen healthcheck --url "$HALFOPEN_HEALTH_ADDRESS"
ENTRYPOINT ["halfopen"]
CMD ["run"]
