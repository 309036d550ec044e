#!/bin/sh
# Reductions share threadgroup memory between barriers with mem_flags::mem_none, which by the letter of the language order
# no memory. Today's GPUs do not mind, and without --strict nothing is found.
#
# shows: race in kernel `softmax_f32`, threadgroup variable `shared`
# shows: no threadgroup_barrier with mem_flags::mem_threadgroup between them
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
metal-sim run "$KERNELS/reduce.metal" --kernel softmax_f32 --grid 1 --group 64 --strict \
    --buffer 0=u32:128 --buffer 1=u32:128 --buffer 2=count:128:f32 --buffer 3=zeros:512
