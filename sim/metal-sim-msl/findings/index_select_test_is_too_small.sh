#!/bin/sh
# Candle's own tests of index_select on i64 give the result room for as many f32: the kernel writes twice as much.
#
# shows: access out of bounds in kernel `is_u32_i64`
# shows: the buffer has 24 bytes
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
# Elements, rows before, length, row, ids, contiguous, shape and strides; the input, three ids, the result.
metal-sim run "$KERNELS/indexing.metal" --kernel is_u32_i64 --threads 6 --group 6 \
    --buffer 0=u64:6 --buffer 1=u64:1 --buffer 2=u64:5 --buffer 3=u64:2 --buffer 4=u64:3 --buffer 5=bool:true \
    --buffer 6=u64:5,2 --buffer 7=u64:2,1 --buffer 8=count:10:i64 --buffer 9=u32:0,4,2 --buffer 10=zeros:24
