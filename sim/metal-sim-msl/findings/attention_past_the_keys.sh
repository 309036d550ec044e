#!/bin/sh
# Causal attention in blocks takes the number of key blocks from the diagonal. With 40 queries and 40 keys in blocks of
# 16 that is one more than there are keys for: keys and values are read past the end. Whatever is there counts with
# weight 0, which makes NaN of infinities and NaN. MLX takes the smaller of the two numbers.
#
# shows: access out of bounds in kernel `steel_attention_float32_bq32_bk16_bd128_wm4_wn1_maskfloat32`, buffer 1 `K`
# shows: buffer 2 `V`
# shows: the buffer has 20480 bytes
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
# AttnParams: B, H, D, qL, kL, gqa_factor, scale, softcapping, NQ, NK, NQ_aligned, NK_aligned, qL_rem, kL_rem, qL_off, a
# gap, and three strides each of Q, K, V, O.
metal-sim run "$KERNELS/scaled_dot_product_attention.metal" \
    --kernel steel_attention_float32_bq32_bk16_bd128_wm4_wn1_maskfloat32 --grid 2 --group 32,4 \
    --constant align_Q=bool:false --constant align_K=bool:false \
    --constant has_mask=bool:false --constant do_causal=bool:true \
    --buffer 0=random:5120:f32 --buffer 1=random:5120:f32 --buffer 2=random:5120:f32 --buffer 3=zeros:20480 \
    --buffer 4=i32:1,1,128,40,40,1,f32:0.0884,1,i32:2,3,1,2,8,8,0,0,i64:5120,5120,128,5120,5120,128,5120,5120,128,5120,5120,128
