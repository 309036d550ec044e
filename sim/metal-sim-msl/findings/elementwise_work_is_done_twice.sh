#!/bin/sh
# Kernels for each element by itself give a thread every `step`-th element. The dispatch rounds the number of threads up
# to whole threadgroups, and the threads beyond `step` do the elements of others again. Here: 2970 elements, 1485 threads
# with two each, in two threadgroups of 1024.
#
# shows: race in kernel `badd_f32`, buffer 3 `output`
# shows: writes 4 bytes at offset 5940
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
metal-sim run "$KERNELS/binary.metal" --kernel badd_f32 --grid 2 --group 1024 \
    --buffer 0=i64:2970 --buffer 1=count:2970:f32 --buffer 2=count:2970:f32 --buffer 3=zeros:11880
