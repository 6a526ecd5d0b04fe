#!/bin/sh
# certificates.sh FOLDER NAME...: create an authority and a certificate for each NAME, valid for the hosts NAME, localhost
# and 127.0.0.1, as server and as client. For tests and for trying out the TLS overlay; in a cluster, use its issuer.
# FOLDER gets ca.pem, NAME.pem, NAME.key, and NAME.bundle.pem (key and chain in one file, as Kafka expects).
# Keys are world-readable, because containers run as other users: restrict access to FOLDER. An existing authority is kept.
set -eu
folder=${1:?FOLDER NAME... are wanted}
shift
days=825
mkdir -p "$folder"
cd "$folder"
if [ ! -e ca.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" -subj "/CN=coe test authority" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout ca.key -out ca.pem 2>/dev/null
fi
for name in "$@"; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr" 2>/dev/null
    printf '%s\n' "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" "basicConstraints=CA:FALSE" \
        "keyUsage=digitalSignature" "extendedKeyUsage=serverAuth,clientAuth" >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -extfile "$name.ext" \
        -out "$name.pem" 2>/dev/null
    cat "$name.key" "$name.pem" ca.pem >"$name.bundle.pem"
    chmod 644 "$name.key" "$name.bundle.pem"
    rm "$name.csr" "$name.ext"
done
