#!/usr/bin/env bash
# A real Spark standalone master and two workers on loopback: submit the jobs, then stop them.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/.cluster
master=spark://127.0.0.1:7077
export SPARK_LOCAL_IP=127.0.0.1 SPARK_LOG_DIR=$work/logs SPARK_WORKER_DIR=$work/work
rm -rf "$work" && mkdir -p "$work/logs" "$work/work"

daemons=()
stop() { kill "${daemons[@]}" 2>/dev/null || true; wait 2>/dev/null || true; }
trap stop EXIT

start() { # name, class, arguments
  spark-class "org.apache.spark.deploy.$2" "${@:3}" >"$work/logs/$1.log" 2>&1 &
  daemons+=($!)
}
await() { # log, words
  for _ in $(seq 60); do
    grep -q "$2" "$work/logs/$1.log" && return
    sleep 1
  done
  echo "cluster-demo: '$2' did not appear in $work/logs/$1.log within a minute" >&2
  exit 1
}

echo "Starting a master and two workers of one core each"
start master master.Master --host 127.0.0.1 --port 7077 --webui-port 0
await master "I have been elected leader"
for number in 1 2; do
  start "worker$number" worker.Worker --host 127.0.0.1 --webui-port 0 --cores 1 --memory 2g "$master"
done
for number in 1 2; do await "worker$number" "Successfully registered"; done

submit() {
  # Delta's jars are already in this Spark's own folder, so none are fetched.
  spark-submit --master "$master" --properties-file conf/spark-defaults.conf \
    --conf spark.jars.packages= --conf spark.executor.cores=1 --conf spark.executor.memory=1g \
    --conf spark.executor.memoryOverhead=0 --conf spark.sql.shuffle.partitions=4 \
    --driver-memory 2g "$@"
}
submit jobs/run.py --from simulate --env cluster --source conf/sources/shop.yaml --input .cluster/raw
