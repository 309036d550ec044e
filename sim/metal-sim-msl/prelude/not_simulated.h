// What Metal has and this does not: named here, so that a source which uses it is refused with a reason instead of
// an unknown type.
#pragma once

namespace metal {

enum class access { sample, read, write, read_write };

#define MSL_NOT_SIMULATED \
  __attribute__((unavailable("not simulated: only compute on buffers is, see prelude/README.md")))
#define MSL_TEXTURE(name)                       \
  template <class T, access A = access::sample> \
  struct MSL_NOT_SIMULATED name;
MSL_TEXTURE(texture1d)
MSL_TEXTURE(texture1d_array)
MSL_TEXTURE(texture2d)
MSL_TEXTURE(texture2d_array)
MSL_TEXTURE(texture2d_ms)
MSL_TEXTURE(texture2d_ms_array)
MSL_TEXTURE(texture3d)
MSL_TEXTURE(texturecube)
MSL_TEXTURE(texturecube_array)
MSL_TEXTURE(texture_buffer)
MSL_TEXTURE(depth2d)
MSL_TEXTURE(depth2d_array)
MSL_TEXTURE(depth2d_ms)
MSL_TEXTURE(depth2d_ms_array)
MSL_TEXTURE(depthcube)
MSL_TEXTURE(depthcube_array)
#undef MSL_TEXTURE

struct MSL_NOT_SIMULATED sampler;
struct MSL_NOT_SIMULATED command_buffer;
struct MSL_NOT_SIMULATED compute_command;
struct MSL_NOT_SIMULATED render_command;
struct MSL_NOT_SIMULATED compute_pipeline_state;
template <class T>
struct MSL_NOT_SIMULATED visible_function_table;
template <class T, class... A>
struct MSL_NOT_SIMULATED imageblock;
template <class... A>
struct MSL_NOT_SIMULATED tensor;

namespace raytracing {
struct MSL_NOT_SIMULATED ray;
struct MSL_NOT_SIMULATED primitive_acceleration_structure;
struct MSL_NOT_SIMULATED instance_acceleration_structure;
template <class... A>
struct MSL_NOT_SIMULATED acceleration_structure;
template <class... A>
struct MSL_NOT_SIMULATED intersector;
template <class... A>
struct MSL_NOT_SIMULATED intersection_function_table;
}  // namespace raytracing

#undef MSL_NOT_SIMULATED

}  // namespace metal
