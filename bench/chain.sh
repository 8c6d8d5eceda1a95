#!/bin/bash
# The chain's commands, called by a plain script on the same application: what a person would write who wants the
# result and nothing else. No evidence is read back, no policy is asked. Called by bench/chain.py, which sets
# CONTEXT, EPOCH (the commit's time), REGISTRY, BASES (build contexts), TOOLS (directories before PATH), *_KEY (KMS
# aliases), *_AWS and *_DOCKER (each tier's credentials), PORT, PROBE and TESTS. Prints `step seconds` for every step.
set -euo pipefail
export PATH=$TOOLS:$PATH
work=$(mktemp -d)
name=bench-script-$$
tidy() { # whatever of it is there
    docker rm -f "$name" "$name-strict" "$name-loose" || true
    docker network rm "$name-probe" || true
    rm -rf "$work"
}
trap 'tidy >/dev/null 2>&1' EXIT
printf '%s' '{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","rekorTlogConfig":{},"tsaConfig":{}}' >"$work/signing.json"
printf '%s' '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}' >"$work/root.json"
printf '{}' >"$work/predicate.json"
printf '%s' '{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"bench","digest":{"sha256":"'"$(printf '' | sha256sum | cut -c1-64)"'"}}],"predicateType":"https://example.org/x","predicate":{}}' >"$work/statement.json"

step() { # step NAME COMMAND…: run it, and say how long it took
    local started ended
    started=$(date +%s.%N)
    "${@:2}" >"$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; exit 1; }
    ended=$(date +%s.%N)
    echo "$1 $(echo "$ended - $started" | bc)"
}
together() { # wait for all jobs; fail with the first that failed
    local job
    for job in $(jobs -p); do wait "$job"; done
}
as() { # as TIER COMMAND…: with that tier's credentials
    local aws=$1_AWS docker=$1_DOCKER
    env ${!aws} DOCKER_CONFIG="${!docker}" "${@:2}"
}
attest() { # attest TIER TYPE IMAGE: one signed statement beside the image
    local key=$1_KEY
    as "$1" cosign attest --key "awskms:///${!key}" --signing-config "$work/signing.json" --trusted-root "$work/root.json" \
        --predicate "$work/predicate.json" --type "$2" --allow-insecure-registry --yes "$3"
}
recorded() { # recorded NAME: one signed statement in a file; execution may not write beside the image
    as EXECUTION cosign attest-blob --statement "$work/statement.json" --key "awskms:///$EXECUTION_KEY" \
        --signing-config "$work/signing.json" --trusted-root "$work/root.json" --bundle "$work/$1.bundle" --yes
}
ready() { # ready CONTAINER: until it answers
    local address
    address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1")
    until curl -sf -o /dev/null "http://$address:$PORT$PROBE"; do sleep 0.02; done
}
hardened() { # hardened NAME IMAGE [OPTION]: started as the chain starts it
    docker run -d --name "$1" ${3:---read-only} --cap-drop ALL --security-opt no-new-privileges --user 10001:10001 \
        --memory 128m --pids-limit 64 "$2"
}

buildx() {
    SOURCE_DATE_EPOCH=$EPOCH command buildx build --progress=plain --provenance=false --sbom=false $BASES \
        ${CA:+--secret=id=ca,src=$CA} "$@" "$CONTEXT"
}
image() {
    buildx --output="type=oci,dest=$work/image.tar,rewrite-timestamp=true,name=bench.local/image:$$"
    docker load --input "$work/image.tar"
}
build() {
    image &
    buildx --target=test --output="type=image,unpack=true,name=bench.local/test:$$" &
    together
}
dependencies() {
    syft scan "dir:$CONTEXT" --output "syft-json=$work/source.json" --output "cyclonedx-json=$work/source.cdx" \
        --output "spdx-json=$work/source.spdx"
    grype "sbom:$work/source.json" --output json --file "$work/source-report.json"
}
started() { # started NAME OPTION: until it answers, and until it has stopped
    hardened "$1" "bench.local/image:$$" "$2"
    ready "$1"
    docker top "$1"
    docker stop "$1"
    docker diff "$1"
    docker logs "$1" >"$work/$1.out" 2>&1
    docker rm "$1"
}
probed() { # as declared, and with a root that can be written to
    docker network create --internal "$name-probe"
    started "$name-strict" "--read-only --network=$name-probe" &
    started "$name-loose" "--read-only=false --network=$name-probe" &
    together
    docker network rm "$name-probe"
    cat "$work/$name-strict.out" "$work/$name-loose.out" >"$work/probe.out"
    (cd "$work" && detect-secrets scan --all-files probe.out)
}
tests() {
    docker run --rm --network none "bench.local/test:$$" $TESTS >"$work/tests.out" 2>&1
    (cd "$work" && detect-secrets scan --all-files tests.out)
}
checked() {
    dependencies &
    probed &
    tests &
    docker save "bench.local/image:$$" | tar --list --verbose >"$work/content" & # as the chain looks at every layer
    (cd "$CONTEXT" && detect-secrets scan --all-files) &
    (cd "$CONTEXT" && bandit --quiet --exit-zero --recursive .) &
    hadolint --no-fail "$CONTEXT/Dockerfile" &
    together
}
offer() {
    local n
    docker tag "bench.local/image:$$" "$REGISTRY/dev/bench:$$"
    as DEVELOPMENT docker push "$REGISTRY/dev/bench:$$"
    docker rmi --no-prune "$REGISTRY/dev/bench:$$"
    for n in 1 2 3 4; do attest DEVELOPMENT "https://example.org/$n" "$offered" & done
    together
    for n in 5 6 7 8; do attest DEVELOPMENT "https://example.org/$n" "$offered" & done
    together
    attest DEVELOPMENT https://example.org/9 "$offered"
}
same() { # same BLOB: what the registry gives has that digest
    [ "sha256:$(as CURATION crane blob --insecure "$REGISTRY/curated/bench@$1" | sha256sum | cut -c1-64)" = "$1" ]
}
store() {
    local blob
    as CURATION crane copy --insecure "$offered" "$REGISTRY/curated/bench:$$"
    as CURATION crane manifest --insecure "$stored" >"$work/manifest.json"
    for blob in $(grep -oE '"digest": ?"sha256:[0-9a-f]+' "$work/manifest.json" | cut -d'"' -f4); do same "$blob" & done
    together
    attest CURATION https://example.org/verdict "$stored"
}
scan() {
    SYFT_GOLANG_CAPTURE_SYMBOLS=all SYFT_REGISTRY_INSECURE_USE_HTTP=true as CURATION syft scan "registry:$stored" --output "syft-json=$work/image.json" \
        --output "cyclonedx-json=$work/image.cdx" --output "spdx-json=$work/image.spdx"
    grype "sbom:$work/image.json" --output json --file "$work/report.json"
    attest CURATION https://example.org/sbom "$stored" &
    attest CURATION https://example.org/report "$stored" &
    together
}
sign() {
    as CURATION cosign sign --key "awskms:///$CURATION_KEY" --signing-config "$work/signing.json" \
        --trusted-root "$work/root.json" --allow-insecure-registry --yes "$stored"
    as CURATION cosign verify --key "$PUBLIC" --insecure-ignore-tlog --trusted-root "$work/root.json" \
        --allow-insecure-registry "$stored"
}
deploy() {
    recorded verdict
    as EXECUTION docker pull "$stored"
    hardened "$name" "$stored"
    ready "$name"
    sleep 0.3 # the chain looks once more, too
    curl -sf -o /dev/null "http://$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name"):$PORT$PROBE"
    recorded deployment
}
leave() { # looked at as the monitor does; and what was there before is stopped, and removed
    docker diff "$name"
    docker stop "$name"
    docker rm "$name"
}

step build build
step test checked
offered=$REGISTRY/dev/bench:$$
stored=$REGISTRY/curated/bench:$$
step offer offer
step store store
step encrypt attest CURATION https://example.org/encryption "$stored"
step scan scan
step verdict attest CURATION https://example.org/verdict2 "$stored"
step sign sign
step deploy deploy
step record leave
docker rmi -f "bench.local/image:$$" "bench.local/test:$$" "$stored" >/dev/null 2>&1 || true
