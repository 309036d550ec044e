// Asserted while it is compiled.
template <class A, class B>
constexpr bool same = is_same_v<A, B>;

static_assert(numeric_limits<char>::max() == 127 && numeric_limits<char>::min() == -128);
static_assert(numeric_limits<uchar>::max() == 255 && numeric_limits<uchar>::lowest() == 0);
static_assert(numeric_limits<short>::max() == 32767 && numeric_limits<short>::min() == -32768);
static_assert(numeric_limits<int>::max() == INT_MAX && numeric_limits<int>::min() == INT_MIN);
static_assert(numeric_limits<uint>::max() == UINT_MAX && numeric_limits<uint>::digits == 32);
static_assert(numeric_limits<long>::max() == LONG_MAX && numeric_limits<long>::min() == LONG_MIN);
static_assert(numeric_limits<ulong>::max() == ULONG_MAX && numeric_limits<ulong>::digits10 == 19);
static_assert(numeric_limits<int>::digits10 == 9 && numeric_limits<char>::digits10 == 2);
static_assert(numeric_limits<float>::max() == FLT_MAX && numeric_limits<float>::lowest() == -FLT_MAX);
static_assert(numeric_limits<float>::epsilon() == 1.1920929e-7f && numeric_limits<float>::min() == 1.17549435e-38f);
static_assert(numeric_limits<half>::max() == 65504.0h && numeric_limits<half>::epsilon() == 0.0009765625h);
static_assert(float(numeric_limits<bfloat>::max()) == 3.3895314e38f && numeric_limits<bfloat>::digits == 8);
static_assert(numeric_limits<float>::infinity() > FLT_MAX && numeric_limits<half>::infinity() > 65504.0h);
static_assert(numeric_limits<float>::quiet_NaN() != numeric_limits<float>::quiet_NaN());
static_assert(numeric_limits<const int>::max() == INT_MAX);

static_assert(is_floating_point_v<half> && is_floating_point_v<bfloat> && !is_floating_point_v<int>);
static_assert(is_integral_v<bool> && is_arithmetic_v<half> && !is_arithmetic_v<float4>);
static_assert(is_signed_v<half> && is_signed_v<char> && is_unsigned_v<uchar> && !is_signed_v<uint>);
static_assert(same<make_unsigned_t<int>, uint> && same<make_signed_t<ulong>, long>);
static_assert(same<remove_cv_t<const volatile int>, int> && same<remove_reference_t<int&>, int>);
static_assert(same<conditional_t<true, int, float>, int> && same<enable_if_t<true, int>, int>);
static_assert(same<common_type_t<int, float, half>, float> && same<decay_t<int[3]>, int*>);
static_assert(conjunction_v<true_type, true_type> && !conjunction_v<true_type, false_type> && disjunction_v<false_type, true_type>);
static_assert(is_convertible_v<int, float> && !is_convertible_v<float4, float> && is_convertible_v<float, float4>);
static_assert(!is_convertible_v<float4, int4> && is_convertible_v<packed_float3, float3> && is_convertible_v<float3, packed_float3>);
static_assert(vec_elements<float>::value == 1 && vec_elements<half4>::value == 4 && is_vector_v<int3> && !is_vector_v<int>);
static_assert(is_trivially_copyable_v<float3> && is_trivially_copyable_v<packed_half2> && is_trivially_copyable_v<float4x4>);
static_assert(__is_trivially_constructible(float4) && __is_trivially_constructible(float2x2));
static_assert(extent<int[3][4], 1>::value == 4 && rank<int[3][4]>::value == 2);

// Vectors in constant expressions.
constexpr float4 four(1, float2(2, 3), 4);
static_assert(four.x == 1 && four[3] == 4 && four.wzyx.y == 3 && (four * 2).z == 6 && all(four.xy == float2(1, 2)));
constexpr uint2 tile(8, 4);
int tiles[tile.x * tile.y];
static_assert(sizeof tiles == 128 && max(3, 4) == 4 && clamp(9, 1, 5) == 5 && dot(float2(1, 2), float2(3, 4)) == 11);
static_assert(min(2u, 3u) == 2 && median3(5, 1, 3) == 3 && select(1, 2, true) == 2);

// A union of vectors, and shared memory without a constructor.
union Both {
  float4 f;
  uint4 u;
};
struct Block {
  half scales[2];
  packed_uchar4 values;
};
static_assert(sizeof(Block) == 8 && alignof(Block) == 2);
static_assert(sizeof(array<float3, 2>) == 32);

static_assert(M_PI_F > 3.1415926f && M_PI_F < 3.141593f && M_E_F > 2.71828f && M_SQRT2_F > 1.41421f);
static_assert(INFINITY > FLT_MAX && MAXFLOAT == FLT_MAX && NAN != NAN && HUGE_VALH > MAXHALF);
