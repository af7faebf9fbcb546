# Builds the image that compose.yaml and deploy/base/kubernetes.yaml name. Tried with buildah, on
# base images of these names that were made by debootstrap: not with those of Docker Hub.
FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin doorbell

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 doorbell \
    && install --directory --owner=10001 --mode=700 /var/lib/doorbell
COPY --from=build /src/target/release/doorbell /usr/local/bin/doorbell
USER 10001
ENV DOORBELL_DATA_DIR=/var/lib/doorbell DOORBELL_LISTEN=0.0.0.0:50051
VOLUME /var/lib/doorbell
EXPOSE 50051 9464
ENTRYPOINT ["doorbell"]
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["doorbell", "healthcheck"]
CMD ["serve"]
