// <metal_geometric>: lengths, products and directions. Sums are in the type of the components, first to last.
#pragma once

namespace metal {

// Packed and plain vectors, alone or mixed with each other.
#define MSL_GEOMETRIC_1(name)                                                                 \
  template <class A, class V = msl_detail::vector_among<A>, class T = msl_detail::element<V>> \
  MSL_FN constexpr auto name(A a)
#define MSL_GEOMETRIC_2(name)                                                                             \
  template <class A, class B, class V = msl_detail::vector_among<A, B>, class T = msl_detail::element<V>> \
  MSL_FN constexpr auto name(A a, B b)

MSL_GEOMETRIC_2(dot) {
  V x(a), y(b);
  T sum = T(x[0] * y[0]);
  MSL_UNROLL
  for (int i = 1; i < msl_detail::count<V>; i++) sum = T(sum + x[i] * y[i]);
  return sum;
}
MSL_GEOMETRIC_1(length_squared) { return dot(a, a); }
MSL_GEOMETRIC_1(length) { return T(sqrt(dot(a, a))); }
MSL_GEOMETRIC_2(distance_squared) { return length_squared(V(a) - V(b)); }
MSL_GEOMETRIC_2(distance) { return length(V(a) - V(b)); }
MSL_GEOMETRIC_1(normalize) {
  V x(a);
  return V(x * T(rsqrt(dot(x, x))));
}
MSL_GEOMETRIC_2(cross) {
  V x(a), y(b);
  return V(T(x.y * y.z - x.z * y.y), T(x.z * y.x - x.x * y.z), T(x.x * y.y - x.y * y.x));
}
// `incident` mirrored at a surface with this normal.
MSL_GEOMETRIC_2(reflect) {
  V incident(a), normal(b);
  return V(incident - normal * T(T(2) * dot(normal, incident)));
}
template <class T, int N>
MSL_FN vec<T, N> faceforward(vec<T, N> normal, vec<T, N> incident, vec<T, N> reference) {
  return dot(reference, incident) < T(0) ? normal : -normal;
}
template <class T, int N>
MSL_FN vec<T, N> refract(vec<T, N> incident, vec<T, N> normal, type_identity_t<T> ratio) {
  T along = dot(normal, incident);
  T k = T(T(1) - ratio * ratio * (T(1) - along * along));
  if (k < T(0)) return vec<T, N>(T(0));
  return incident * ratio - normal * T(ratio * along + sqrt(k));
}

#undef MSL_GEOMETRIC_1
#undef MSL_GEOMETRIC_2

#define MSL_BOTH                                                                                               \
  using metal::cross, metal::distance, metal::distance_squared, metal::dot, metal::faceforward, metal::length, \
      metal::length_squared, metal::normalize, metal::reflect, metal::refract;
namespace fast {
MSL_BOTH
}
namespace precise {
MSL_BOTH
}
#undef MSL_BOTH

}  // namespace metal
