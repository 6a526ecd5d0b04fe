#!/bin/sh
# sizes.sh MOST: print the size of each of our images in MB, with and without its model layers; fail if one exceeds MOST
# without them.
set -eu
most=$1 status=0
for image in $(docker images --format '{{.Repository}}:{{.Tag}}' | grep '^coe/' | sort); do
    # Layers, newest first: bytes and the instruction. Models are copied to /opt/models and /opt/cache.
    sizes=$(docker history --no-trunc --human=false --format '{{.Size}} {{.CreatedBy}}' "$image" |
        awk '{ all += $1 } / in \/opt\/(models|cache) *$/ { models += $1 }
             END { printf "%d %d", all / 1e6, (all - models) / 1e6 }')
    [ "${sizes% *}" -gt 0 ] || { echo "$image has no layers to measure" >&2; exit 1; }
    printf '%-36s %4s MB, %4s without models\n' "$image" "${sizes% *}" "${sizes#* }"
    [ "${sizes#* }" -le "$most" ] || status=1
done
[ "$status" = 0 ] || echo "an image is larger than $most MB without models" >&2
exit "$status"
