#!/bin/sh
# The first of two passes of attention with one query: all lanes of a simdgroup write the same sum and the same maximum
# to the same place. The value is right whoever is last; by the letter of the language it is a race.
#
# shows: race in kernel `sdpa_vector_2pass_1_float_64`, buffer 4 `sums`
# shows: buffer 5 `maxs`
# shows: lanes of a simdgroup do not run in step
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
# The arguments after the results: heads per key head, keys, strides of keys and values, scale, softcapping.
metal-sim run "$KERNELS/scaled_dot_product_attention.metal" --kernel sdpa_vector_2pass_1_float_64 \
    --grid 1,1,32 --group 256 --constant sdpa_vector_has_mask=bool:false \
    --buffer 0=random:64:f32 --buffer 1=random:4928:f32 --buffer 2=random:4928:f32 \
    --buffer 3=zeros:8192 --buffer 4=zeros:128 --buffer 5=zeros:128 \
    --buffer 6=i32:1 --buffer 7=i32:77 --buffer 8=u64:4928 --buffer 9=u64:4928 --buffer 10=f32:0.125 --buffer 11=f32:1
