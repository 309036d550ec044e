// Sums over the rows of a matrix, such as the gradient of a bias.
//
// A threadgroup has 32 columns, one for each lane, so that a simdgroup reads neighbours; its simdgroups share the rows
// and meet once. 16 of them keep many reads under way where columns are few; 2 KB of threadgroup memory. Not measured
// on a Mac.

struct ColumnsShape {
  Shape shape;
  Rows x;
};

template <typename T>
KERNEL(512) columns(device const T* x [[buffer(0)]],
                    device T* sums [[buffer(1)]],
                    constant ColumnsShape& at [[buffer(2)]],
                    PLACES) {
  threadgroup float shared[16 * 32];
  const uint column = group * 32 + lane;
  float sum = 0;
  if (column < at.shape.width) {
    for (uint row = simdgroup; row < at.shape.rows; row += all_simdgroups) {
      sum += float(x[row_start(at.x, at.shape, row) + column * at.x.step]);
    }
  }
  sum = sum_of_column(sum, all_simdgroups, simdgroup, lane, shared);
  if (simdgroup == 0 && column < at.shape.width) sums[column] = T(sum);
}

INSTANTIATE(columns)
