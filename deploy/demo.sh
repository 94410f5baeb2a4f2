#!/usr/bin/env bash
# demo.sh - the main job, end to end, on this machine alone (loopback): TLS broker, provisioned device, agent, simulated
# household faster than real time, events as a subscriber receives them, an outage, a model push.
#
#   --keep        leave everything running at the end (its folder and how to stop it are printed)
#   --data DIR    replay tracebase day files (DIR/complete/CLASS/*.csv) instead of the simulation
#   --seconds N   length of the run after the build (default 100, at least 40, at most 170)
# Installs missing Debian packages (as root or with sudo) and builds first. Exit code 0 when everything worked.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

keep=0 data= seconds=100
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=1; shift ;;
    --data) data=$(realpath "${2:?--data needs a folder}"); shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo.sh: unknown option '$1' (see --help)" >&2; exit 1 ;;
    esac
done
[[ $seconds =~ ^[0-9]+$ ]] && [ "$seconds" -ge 40 ] && [ "$seconds" -le 170 ] || {
    echo "demo.sh: --seconds: a whole number from 40 to 170 is expected, not '$seconds'" >&2; exit 1; }
[ -z "$data" ] || [ -d "$data/complete" ] || {
    echo "demo.sh: --data: $data has no folder 'complete' (tracebase's layout is expected)" >&2; exit 1; }

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

say "Packages and build"
deploy/packages.sh build demo
build=build/demo
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DNILM_TESTS=OFF >/dev/null
cmake --build $build | tail -n 1
nilmd=$root/$build/agent/nilmd nilmctl=$root/$build/agent/nilmctl nilm_model=$root/$build/agent/nilm-model

work=$(mktemp -d /tmp/nilmd-demo.XXXXXX)
broker_pid= agent_pid= watch_pid=
stop_all() {
    for pid in $watch_pid $agent_pid $broker_pid; do kill "$pid" 2>/dev/null || true; done
    for pid in $watch_pid $agent_pid $broker_pid; do wait "$pid" 2>/dev/null || true; done
    watch_pid= agent_pid= broker_pid=
}
finish() {
    local code=$?
    if [ $code -ne 0 ]; then
        echo "demo.sh: failed (exit code $code); the last lines of the agent's log:" >&2
        tail -n 15 "$work/nilmd.log" >&2 2>/dev/null || true
    fi
    if [ $keep = 1 ] && [ $code -eq 0 ]; then
        echo "Left running, in $work. To watch it:"
        echo "  cd $work && $nilmctl watch ${operator[*]}"
        echo "To stop it:"
        echo "  kill $agent_pid $broker_pid; sleep 2; rm -r $work"
    else
        stop_all
        rm -rf "$work"
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

say "A certificate authority, the broker's certificate, an operator (a fleet has these already)"
ca() { openssl "$@" >/dev/null 2>&1; }
cd "$work"
mkdir pki ring
ca req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj "/CN=demo CA" -keyout pki/ca.key -out pki/ca.pem
issue() { # NAME EXTENSION: key and certificate
    ca req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "pki/$1.key" -out "pki/$1.csr"
    sign_csr "pki/$1.csr" "pki/$1.pem" "$2"
}
sign_csr() {
    printf '%s\n' "$3" >pki/extension
    ca x509 -req -in "$1" -CA pki/ca.pem -CAkey pki/ca.key -CAcreateserial -days 60 -extfile pki/extension -out "$2"
}
issue broker subjectAltName=DNS:localhost,IP:127.0.0.1
issue operator extendedKeyUsage=clientAuth
ca ecparam -name prime256v1 -genkey -noout -out pki/models.key
ca ec -in pki/models.key -pubout -out ring/models.pub
ls pki/*.pem

say "Provisioning the device: its key is made here and never leaves"
free_port() { # no listener answers there
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
    done
}
port=$(free_port)
url=mqtts://127.0.0.1:$port
provision() {
    "$nilmctl" provision --dir "$work/etc" --data-dir "$work/data" --device gateway-1 --group demo --broker "$url" \
        --key-ring ring/models.pub --model "$root/inference/models/identify-int8.nilm" "$@"
}
provision
sign_csr etc/*.csr pki/gateway-1.pem extendedKeyUsage=clientAuth
provision --ca pki/ca.pem --cert pki/gateway-1.pem

if [ -n "$data" ]; then
    n=0
    for class in Refrigerator WaterKettle Washingmachine Dishwasher TV-LCD Coffeemaker MicrowaveOven PC-Desktop; do
        files=$(find "$data/complete/$class" -name '*.csv' 2>/dev/null | sort | head -n 2 | tr '\n' ' ')
        [ -n "$files" ] || continue
        n=$((n + 1))
        printf '[meter:%s]\ntype = replay\nfiles = %s\nspeed = 1200\n' "${class,,}" "$files"
    done >etc/conf.d/50-meters.conf
    [ $n -gt 0 ] || { echo "demo.sh: no known class found under $data/complete" >&2; exit 2; }
else
    seed=7
    for appliance in Refrigerator WaterKettle Washingmachine Dishwasher MicrowaveOven Coffeemaker TV-LCD Lamp; do
        seed=$((seed + 1))
        printf '[meter:%s]\ntype = sim\nappliance = %s\nseed = %s\nspeed = 1200\ntruth = %s\n' \
            "${appliance,,}" "$appliance" $seed "$work/truth-$appliance.csv"
    done >etc/conf.d/50-meters.conf
    # and a household behind one meter, separated by the mains model
    printf '[model]\nmains_file = %s\n[meter:house]\ntype = sim\nkind = mains\nappliance = %s\nseed = 3\nspeed = 1200\n' \
        "$root/inference/models/mains-int8.nilm" "Refrigerator WaterKettle Washingmachine Dishwasher MicrowaveOven" >>etc/conf.d/50-meters.conf
fi
"$nilmd" --config etc/nilmd.conf --check-config

say "Mosquitto with TLS; clients without a certificate of this CA are refused"
cat >mosquitto.conf <<CONF
listener $port 127.0.0.1
cafile $work/pki/ca.pem
certfile $work/pki/broker.pem
keyfile $work/pki/broker.key
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file $work/acl
persistence true
persistence_location $work/
autosave_on_changes true
autosave_interval 1
log_dest file $work/broker.log
CONF
[ "$(id -u)" -ne 0 ] || echo "user root" >>mosquitto.conf
cp "$root/deploy/mosquitto.acl" acl
chmod 600 acl
start_broker() {
    /usr/sbin/mosquitto -c mosquitto.conf 2>>broker.log &
    broker_pid=$!
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        sleep 0.1
    done
    echo "demo.sh: mosquitto did not start: $(tail -n 3 broker.log)" >&2
    exit 2
}
outbox_rows() {
    "$nilmctl" outbox --config etc/nilmd.conf --json | grep -o '"rows":[ ]*[0-9]*' | head -n 1 | grep -o '[0-9]*$'
}
operator=(--broker "$url" --ca pki/ca.pem --cert pki/operator.pem --key pki/operator.key)
start_broker
began=$SECONDS

say "The agent starts; below are its events and alerts as a subscriber receives them"
# Each message once, also over the broker's outage: its session on the broker outlives a lost connection (SPEC 8).
"$nilmctl" watch "${operator[@]}" --exactly-once --show --store consumer.db --out watch.jsonl &
watch_pid=$!
for _ in $(seq 50); do # numbers count from the first message that a consumer gets
    grep -q ' as nilmctl-consumer-' broker.log && break
    sleep 0.1
done
sleep 0.5
"$nilmd" --config etc/nilmd.conf 2>nilmd.log &
agent_pid=$!
third=$((seconds / 4))
sleep "$third"

say "The broker is taken away; events wait in the outbox"
# Not killed: Mosquitto acknowledges before it saves, and would lose what it has just taken.
kill -TERM $broker_pid && wait $broker_pid 2>/dev/null || true
broker_pid=
sleep $((third / 2))
"$nilmctl" outbox --config etc/nilmd.conf
waiting=$(outbox_rows)
sleep $((third / 2))

say "The broker is back; the outbox drains"
start_broker
drained=0
for _ in $(seq 60); do
    rows=$(outbox_rows)
    [ "$rows" -gt 2 ] || { drained=1; break; }
    sleep 1
done
"$nilmctl" outbox --config etc/nilmd.conf

say "A pruned INT8 model is packed, signed and pushed while the agent runs"
"$nilm_model" pack --model "$root/inference/models/identify-pruned-int8.nilm" --out pruned.bundle --name "pruned demo"
"$nilm_model" sign --bundle pruned.bundle --key pki/models.key --out pruned.signed
"$nilm_model" verify --bundle pruned.signed --keys ring
"$nilmctl" push --bundle pruned.signed --device gateway-1 "${operator[@]}" --wait 30

left=$((seconds - (SECONDS - began)))
[ $left -le 0 ] || sleep $left

say "Summary"
"$nilmctl" status --config etc/nilmd.conf
"$nilmctl" models --config etc/nilmd.conf
events=$(grep -c '/event/' watch.jsonl || true)
echo "Received by the subscriber: $events events; $waiting items waited in the outbox during the outage and arrived afterwards."
[ "$events" -gt 0 ] || { echo "demo.sh: no event was received" >&2; exit 2; }
[ "$drained" = 1 ] || { echo "demo.sh: the outbox did not drain" >&2; exit 2; }
if [ $keep = 0 ]; then
    kill -TERM $agent_pid && wait $agent_pid || { echo "demo.sh: nilmd ended with exit code $?" >&2; exit 2; }
    agent_pid=
    echo "nilmd stopped cleanly."
    sleep 1 # for its last status to arrive
fi
kill $watch_pid && wait $watch_pid 2>/dev/null || true
watch_pid=
"$nilmctl" watch --report --store consumer.db >/dev/null || { echo "demo.sh: messages are missing at the subscriber" >&2; exit 2; }
