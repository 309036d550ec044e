#!/bin/sh
# A step of the merge sort loads the next element of both halves before it asks whether there is one. The last thread
# reads the element after the threadgroup's array, and does not use it.
#
# shows: access out of bounds in kernel `sort_mbsort_float32_uint32_bn512_tn8`, threadgroup variable `tgp_vals`
# shows: the variable has 16384 bytes
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
# The arguments after the results: length, stride, and one outer dimension with its length and its stride.
metal-sim run "$KERNELS/mlx_sort.metal" --kernel sort_mbsort_float32_uint32_bn512_tn8 --grid 2 --group 512 \
    --buffer 0=random:8192:f32 --buffer 1=zeros:32768 --buffer 2=zeros:32768 \
    --buffer 3=i32:8192 --buffer 4=i32:1 --buffer 5=i32:1 --buffer 6=i32:1 --buffer 7=i64:8192
