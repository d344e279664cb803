#!/bin/sh
# Make the vendored files of the AsyncAPI page and of its tests again. Needs npm; run it from anywhere.
set -eu
cd "$(dirname "$0")"
static="$PWD/src/fastapi_stream_core/asyncapi/static"
tests="$PWD/tests/asyncapi"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

component="@asyncapi/react-component@3.2.1"
specs="@asyncapi/specs@6.11.1"

cd "$work"
npm pack --silent "$component" "$specs" >/dev/null
for archive in *.tgz; do
    mkdir "${archive%.tgz}"
    tar -xzf "$archive" -C "${archive%.tgz}" --strip-components=1
    rm "$archive"
done
mv asyncapi-react-component-* component
mv asyncapi-specs-* specs

sha256sum --check --quiet <<'SUMS'
719f29a62127c5c406af8b3b016167d69e43624200354966cc4997bdce5e4c54  component/browser/standalone/index.js
c8093f9b6441559267845abc24611f7721d075e4f278a8143857bcdc348df410  component/styles/default.min.css
SUMS

mkdir -p "$static" "$tests"
gzip -9 -n -c component/browser/standalone/index.js >"$static/asyncapi.js.gz"
cp component/styles/default.min.css "$static/asyncapi.css"
cp component/browser/standalone/index.js.LICENSE.txt "$static/index.js.LICENSE.txt"
cp component/LICENSE "$static/LICENSE"
for version in 3.0.0 3.1.0; do
    gzip -9 -n -c "specs/schemas/$version.json" >"$tests/$version.json.gz"
done
cp specs/LICENSE specs/NOTICE "$tests/"
