#!/bin/bash
# pki.sh - a test PKI made with the openssl command line tool. Usage: pki.sh FOLDER [NAME...]
#
# Makes in FOLDER (created when missing; ECDSA P-256, PEM):
#   ca.crt ca.key             the CA that broker and clients trust
#   server.crt server.key     for DNS:localhost and IP:127.0.0.1
#   NAME.crt NAME.key         client certificates, CN=NAME (default: device operator)
#   other-ca.crt other-ca.key a CA nobody trusts; stranger.crt stranger.key: a client of it
#   expired.crt               the server's key, a certificate that ended yesterday
#   expired-client.crt .key   a client certificate that ended yesterday
#   wrong-name.crt            the server's key, a certificate for elsewhere.invalid
#   dns-only.crt              the server's key, DNS:localhost and no IP address
set -euo pipefail
umask 077
dir=${1:?usage: pki.sh FOLDER [NAME...]}
shift
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(device operator)
mkdir -p "$dir"
cd "$dir"
log=openssl.log
trap 'rc=$?; [ $rc -eq 0 ] || cat "$log" >&2' EXIT

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>>"$log"; }

ca() { # NAME
    key "$1"
    openssl req -x509 -new -sha256 -key "$1.key" -subj "/CN=nilm test $1" -days 30 -out "$1.crt" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" 2>>"$log"
}

issue() { # CA KEY NAME CN EXTENSIONS [DAYS]: NAME.crt for KEY.key, signed by CA
    openssl req -new -sha256 -key "$2.key" -subj "/CN=$4" -out "$3.csr" 2>>"$log"
    if [ "${6:-30}" -gt 0 ]; then
        openssl x509 -req -sha256 -in "$3.csr" -CA "$1.crt" -CAkey "$1.key" -CAcreateserial \
            -days "${6:-30}" -extfile <(printf '%s\n' "$5") -out "$3.crt" 2>>"$log"
    else # ended yesterday: only "openssl ca" sets dates in the past
        local work="$3.ca"
        mkdir -p "$work"
        : >"$work/index"
        echo 01 >"$work/serial"
        printf '%s\n' "[ca]" "default_ca=d" "[d]" "database=$work/index" "serial=$work/serial" \
            "new_certs_dir=$work" "default_md=sha256" "policy=p" "unique_subject=no" \
            "x509_extensions=e" "[p]" "commonName=supplied" "[e]" "$5" >"$work/ca.conf"
        openssl ca -batch -config "$work/ca.conf" -cert "$1.crt" -keyfile "$1.key" -in "$3.csr" \
            -notext -startdate "$(date -u -d '10 days ago' +%Y%m%d%H%M%SZ)" \
            -enddate "$(date -u -d '1 day ago' +%Y%m%d%H%M%SZ)" -out "$3.crt" 2>>"$log"
        rm -r "$work"
    fi
    rm "$3.csr"
}

ca ca
ca other-ca
key server
both="subjectAltName=DNS:localhost,IP:127.0.0.1"
issue ca server server localhost "$both"
issue ca server expired localhost "$both" -1
issue ca server wrong-name elsewhere.invalid "subjectAltName=DNS:elsewhere.invalid"
issue ca server dns-only localhost "subjectAltName=DNS:localhost"
for name in "${names[@]}"; do
    key "$name"
    issue ca "$name" "$name" "$name" "extendedKeyUsage=clientAuth"
done
key stranger
issue other-ca stranger stranger stranger "extendedKeyUsage=clientAuth"
key expired-client
issue ca expired-client expired-client expired-client "extendedKeyUsage=clientAuth" -1
rm -f ./*.srl
