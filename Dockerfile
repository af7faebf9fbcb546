# Builds the image that compose.yaml and deploy/kubernetes.yaml name. Not tried: it
# was written where no container engine runs.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin doorbell

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 doorbell
COPY --from=build /src/target/release/doorbell /usr/local/bin/doorbell
USER 10001
EXPOSE 50051 9464
ENTRYPOINT ["doorbell"]
CMD ["serve"]
