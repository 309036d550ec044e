#!/bin/sh
# The product of a q8_0 matrix and a vector computes eight rows per threadgroup. Only the results of rows that are not
# there are left out; their weights are read. Here: nine rows of one block of 34 bytes.
#
# shows: access out of bounds in kernel `kernel_mul_mv_q8_0_f32`, buffer 0 `src0`
# shows: the buffer has 306 bytes
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
# The arguments after the result: k, n, batches, three zeros, k, rows, batches, three zeros, n, rows, two ratios.
metal-sim run "$KERNELS/quantized.metal" --kernel kernel_mul_mv_q8_0_f32 --grid 2 --group 8,8 \
    --buffer 0=zeros:306 --buffer 1=count:32:f32 --buffer 2=zeros:36 \
    --buffer 3=i64:32 --buffer 4=i64:9 --buffer 5=i64:1 --buffer 6=i64:0 --buffer 7=i64:0 --buffer 8=i64:0 \
    --buffer 9=i64:32 --buffer 10=i64:1 --buffer 11=i64:1 --buffer 12=i64:0 --buffer 13=i64:0 --buffer 14=i64:0 \
    --buffer 15=i64:9 --buffer 16=i64:1 --buffer 17=u32:1 --buffer 18=u32:1
