#!/usr/bin/env bash
# onnxruntime 1.32.0 and OpenVINO 2026.4.1, Linux, as `pip` installs them: `import` alone, before a model is opened, gives the machine an
# identifier in the home folder, for reports to their makers that are on unless they are switched off. onnxruntime leaves a device id and a
# database of events in ~/.cache, where its Linux builds used to report nothing; OpenVINO, which requires openvino-telemetry, an id and
# a count in ~/intel. So a read-only home, an image of a board that is copied after the first start (all boards are one device) and a
# promise that nothing leaves the site meet it. Neither heeds what switches the other off, both go on under DO_NOT_TRACK=1, and
# onnxruntime's own `disable_telemetry_events()` comes after the files.
#
#   files after the import of onnxruntime: 2, ORT_DISABLE_TELEMETRY=1 0, DO_NOT_TRACK=1 2, disable_telemetry_events() 2;
#   of openvino: 2, ORT_DISABLE_TELEMETRY=1 2, DO_NOT_TRACK=1 2, its package hidden 0
#
# Answered by dance_ondevice/runtime/engines.py (`import_onnxruntime`, `import_openvino`), which switch both off. HTTP is sent
# to a proxy that is not there. Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'onnxruntime==1.32.0' 'openvino==2026.4.1' 'openvino-telemetry==2025.2.0' 'numpy==2.2.6'
# onnxruntime reports nothing where it takes itself to be in a build server.
clean=(env -i "PATH=$PATH" http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9
  HTTPS_PROXY=http://127.0.0.1:9)
files() {  # the number of files in a fresh home after a program, with what is set for it
  rm -rf "$folder/home" && mkdir "$folder/home"
  "${clean[@]}" "HOME=$folder/home" "${@:2}" "$folder/venv/bin/python" -c "$1" >/dev/null 2>&1
  find "$folder/home" -type f -size +0 | wc -l | tr -d ' '
}
ort="import onnxruntime"
vino="import openvino"
first="$(files "$ort") $(files "$ort" ORT_DISABLE_TELEMETRY=1) $(files "$ort" DO_NOT_TRACK=1)"
first="$first $(files "$ort; onnxruntime.disable_telemetry_events()")"
second="$(files "$vino") $(files "$vino" ORT_DISABLE_TELEMETRY=1) $(files "$vino" DO_NOT_TRACK=1)"
second="$second $(files "import sys; sys.modules['openvino_telemetry'] = None; $vino")"
echo "files after import onnxruntime, ORT_DISABLE_TELEMETRY=1, DO_NOT_TRACK=1, disable_telemetry_events(): $first"
echo "files after import openvino, ORT_DISABLE_TELEMETRY=1, DO_NOT_TRACK=1, openvino_telemetry hidden: $second"
test "$first $second" = "2 0 2 2 2 2 2 0" || {
  echo "this has changed"
  exit 1
}
