#!/bin/sh
# The GEMM kernel reads alpha and beta from an argument that its function constant use_out_source turns off, and that
# Candle does not bind. Here the argument is always on, and has no bytes: the lines that read it are named.
#
# shows: access out of bounds in kernel `gemm_nn_f32_f32_32_32_16_2_2`, buffer 5 `addmm_params`
# shows: the buffer has 0 bytes
: "${KERNELS:=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-metal-kernels-0.11.1/src/metal_src)}"
copy=$(mktemp -d)
trap 'rm -r "$copy"' EXIT
sed 's/\[\[buffer(5), function_constant(use_out_source)\]\]/[[buffer(5)]]/' "$KERNELS/mlx_gemm.metal" \
    > "$copy/mlx_gemm.metal"
# GEMMParams: M, N, K, lda, ldb, ldd, tiles_n, tiles_m, three strides of batches, swizzle_log, k / 16, batch_ndim, a gap.
metal-sim run "$copy/mlx_gemm.metal" --kernel gemm_nn_f32_f32_32_32_16_2_2 --grid 1 --group 32,2,2 \
    --constant has_batch=bool:false --constant use_out_source=bool:false --constant do_axpby=bool:false \
    --constant align_M=bool:true --constant align_N=bool:true --constant align_K=bool:true \
    --constant do_gather=bool:false \
    --buffer 0=random:512:f32 --buffer 1=random:512:f32 --buffer 3=zeros:4096 \
    --buffer 4=i32:32,32,16,16,32,32,1,1,i64:512,512,1024,i32:0,1,1,0 --buffer 5=zeros:0
