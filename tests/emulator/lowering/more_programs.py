"""More tiny programs, of the kinds that other people's models are made of; lines as in :mod:`.programs`."""
# ruff: noqa: E501 (a program is a line)

FLOATING = """
vector_matrix | x @ y | x f 3; y f 3,4
vector_vector | x @ y | x f 3; y f 3
matrix_vector | x @ y | x f 2,3; y f 3
batched_matrix | x @ y | x f 2,3,4; y f 4,5
matrix_batched | x @ y | x f 3,4; y f 2,4,5
batch_vector | x @ y | x f 2,3,4; y f 4
heads_matmul | x @ y.transpose(-2, -1) | x f 2,2,3,4; y f 2,2,3,4
linear_vector | F.linear(x, w, b) | x f 3; w f 4,3; b f 4
linear_vector_no_bias | F.linear(x, w) | x f 3; w f 4,3
linear_sequence | F.linear(x, w, b) | x f 2,3,4; w f 5,4; b f 5
linear_to_one | F.linear(x, w, b) | x f 2,3; w f 1,3; b f 1
chain_matmul | torch.chain_matmul(x, y) | x f 2,3; y f 3,4
multi_dot | torch.linalg.multi_dot([x, y, x]) | x f 3,3; y f 3,3
inner | torch.inner(x, y) | x f 2,3; y f 4,3
vdot | torch.vdot(x, y) | x f 3; y f 3
kron | torch.kron(x, y) | x f 2,2; y f 2,2
masked_sum | torch.masked.sum(x, 1, mask=x > 0.5) | x f 2,3
masked_mean | torch.masked.mean(x, 1, mask=x > 0.5) | x f 2,3
masked_amax | torch.masked.amax(x, 1, mask=x > 0.5) | x f 2,3
masked_softmax | torch.masked.softmax(x, 1, mask=x > 0.5) | x f 2,3
masked_norm | torch.masked.norm(x, 2, 1, mask=x > 0.5) | x f 2,3
masked_var | torch.masked.var(x, 1, mask=x > 0.5) | x f 2,3
masked_select | torch.masked_select(x, x > 0.5) | x f 4
masked_scatter | x.masked_scatter(x > 0.5, y) | x f 4; y f 4
masked_fill_tensor | x.masked_fill(x > 0.5, y) | x f 4; y f
masked_attention | F.softmax((x @ x.t()).masked_fill(m, float("-inf")), -1) | x f 3,4; m b 3,3
causal_attention | F.softmax(x @ x.t() + torch.full((3, 3), -1e4).triu(1), -1) | x f 3,4
layer_scale | x + y * x | x f 2,3,4; y f 4
transpose_in_place | x = x * 1; x.transpose_(0, 1); x * 2 | x f 2,3
transpose_view_in_place | x = x.view(2, 3); x.transpose_(0, 1); x * 2 | x f 6
swapaxes_in_place | x = x * 1; x.swapaxes_(0, 1); x * 2 | x f 2,3
t_in_place | x = x * 1; x.t_(); x * 2 | x f 2,3
squeeze_in_place | x = x * 1; x.squeeze_(0); x * 2 | x f 1,3
squeeze_view_in_place | x = x.view(1, 6); x.squeeze_(); x * 2 | x f 2,3
unsqueeze_in_place | x = x * 1; x.unsqueeze_(0); x * 2 | x f 3
size_by_division | x.reshape(2, torch.div(6, 2, rounding_mode="trunc")) | x f 6
size_by_int_of_division | x.reshape(2, int(torch.div(6, 2, rounding_mode="trunc"))) | x f 6
size_by_sum | x.view(torch.add(1, 2) - 1, -1) | x f 6
repeated_by_division | n = torch.div(4, 2, rounding_mode="floor"); n += 1; x.repeat(n, 1) | x f 6
slice_by_division | x[: torch.div(4, 2, rounding_mode="floor") + 1] | x f 6
times_division_of_numbers | x * torch.div(7, 2, rounding_mode="floor") | x f 6
size_by_tensor_made_here | x.view(-1, torch.tensor(x.shape)[-1]) + 0 | x f 2,3
addmm_of_each | torch.addmm(b, x, w) | x f 2,3; w f 3,4; b f 4
squeeze_excite | x * torch.sigmoid(x.mean((2, 3), keepdim=True)) | x f 2,3,4,4
patches | x.unfold(2, 2, 2).unfold(3, 2, 2) | x f 1,3,4,4
patches_by_reshape | x.reshape(1, 3, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3) | x f 1,3,4,4
rotary | torch.cat([-x[..., 2:], x[..., :2]], -1) | x f 2,4
positions_added | x + torch.arange(3, device=x.device).unsqueeze(-1) | x f 3,4
sinusoids | torch.stack([x.sin(), x.cos()], -1).flatten(-2) | x f 3,4
drop_path | x / 0.5 * torch.floor(0.5 + torch.rand(2, 1)) | x f 2,3
bernoulli_mask | x * torch.empty(2, 1).bernoulli_(0.5) | x f 2,3
dropout_in_place | F.dropout(x, 0.5, inplace=True) | x f 2,3
relu_argument_in_place | F.relu(x, True) | x f 2,3
sigmoid_in_place | x.sigmoid_() | x f 2,3
multiply_in_place | x.mul_(2.0) | x f 3
clamp_in_place | x.clamp_(0.2, 0.5) | x f 3
squeeze_all | x.squeeze() | x f 1,3,1
unsqueeze_end | x.unsqueeze(-1) | x f 2,3
view_dtype_of | x.view(-1, 2).to(y.dtype) | x f 4; y f 1
ellipsis | x[..., 0] | x f 2,3,4
new_axis | x[:, None] | x f 2,3
negative_index | x[-1] | x f 3,2
two_indices | x[i, j] | x f 3,2; i i 2; j i 2
slice_and_index | x[:, i] | x f 2,3; i i 2
set_column | x = x.clone(); x[:, 0] = y; x | x f 2,3; y f 2
set_with_indices | x = x.clone(); x[i] = y; x | x f 3,2; i i 1; y f 1,2
set_row_of_view | x = x.clone(); x.view(3, 2)[0] = 0.5; x | x f 2,3
slice_in_place | x = x.clone(); x[:, 1:] += 1; x | x f 2,3
index_put_accumulate | x.index_put((i,), y, accumulate=True) | x f 3; i i 2; y f 2
scatter_number | torch.zeros_like(x).scatter_(1, i, 1.0) | x f 2,3; i i 2,1
scatter_amax | x.scatter_reduce(0, i, y, "amax") | x f 3; i i 2; y f 2
segment_mean | torch.zeros(3).index_add_(0, i, x) | x f 4; i i 4
diff | torch.diff(x) | x f 4
cumsum_reversed | x.flip(0).cumsum(0).flip(0) | x f 4
median_of_all | x.median() | x f 5
mode | x.mode(1)[0] | x f 2,3
std_unbiased | x.std(1, unbiased=False) | x f 2,3
var_of_many | x.var((0, 2, 3)) | x f 2,3,2,2
mean_all | x.mean() | x f 2,3
min_max | x.min(), x.max() | x f 2,3
aminmax | torch.aminmax(x) | x f 2,3
argmin | x.argmin() | x f 2,3
top_one | x.topk(1, dim=1)[1] | x f 2,3
accuracy | (x.argmax(1) == t).float().mean() | x f 4,3; t i 4
logical_any | (x > 0.5).any(1) | x f 2,3
compare_numbers | (x >= 0.2) & (x != 0.5) | x f 3
where_number | torch.where(x > 0.5, x, 0.0) | x f 3
where_numbers | torch.where(x > 0.5, 1.0, 0.0) | x f 3
sign_square | x.sign() * x.abs().pow(0.5) | x f 3
number_power | 2.0 ** x | x f 3
softmax_temperature | F.softmax(x / 0.5, dim=-1) | x f 2,3
log_sum | x.exp().sum(1).log() | x f 2,3
entropy | -(x.softmax(1) * x.log_softmax(1)).sum(1) | x f 2,3
smooth_labels | -(F.log_softmax(x, 1) * (F.one_hot(t, 3) * 0.9 + 0.05)).sum(1).mean() | x f 4,3; t i 4
focal | (-(1 - F.softmax(x, 1).gather(1, t.unsqueeze(1))) ** 2).mean() | x f 4,3; t i 4
dice | 1 - 2 * (x * y).sum() / (x.sum() + y.sum() + 1.0) | x f 2,3; y f 2,3
contrastive | F.cross_entropy(F.normalize(x) @ F.normalize(y).t(), t) | x f 2,3; y f 2,3; t i 2
nll_ignored | F.nll_loss(x, t, ignore_index=1) | x f 4,3; t i 4
cross_entropy_none | F.cross_entropy(x, t, reduction="none") | x f 4,3; t i 4
cross_entropy_sum | F.cross_entropy(x, t, reduction="sum") | x f 4,3; t i 4
bce_sum | F.binary_cross_entropy(x, y, reduction="sum") | x f 2,3; y f 2,3
mse_none | F.mse_loss(x, y, reduction="none") | x f 2,3; y f 2,3
multilabel_margin | F.multilabel_margin_loss(x, t) | x f 2,3; t i 2,3
instance_norm_affine | F.instance_norm(x, weight=w, bias=b) | x f 2,3,4; w f 3; b f 3
batch_norm_eval | F.batch_norm(x, m, v, w, b) | x f 2,3,4; m f 3; v f 3; w f 3; b f 3
weight_standardised | F.conv2d(x, (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)) | x f 1,2,4,4; w f 3,2,3,3
depthwise | F.conv2d(x, w, padding=1, groups=4) | x f 1,4,4,4; w f 4,1,3,3
dilated | F.conv2d(x, w, dilation=2) | x f 1,2,5,5; w f 3,2,2,2
conv_same | F.conv2d(x, w, padding="same") | x f 1,2,4,4; w f 3,2,3,3
conv_transpose1d | F.conv_transpose1d(x, w, stride=2) | x f 1,2,4; w f 2,3,3
max_pool1d | F.max_pool1d(x, 2) | x f 1,2,4
avg_pool1d | F.avg_pool1d(x, 2) | x f 1,2,4
avg_pool2d_padded | F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False) | x f 1,2,4,4
adaptive_avg_pool1d | F.adaptive_avg_pool1d(x, 2) | x f 1,2,4
interpolate_corners | F.interpolate(x, size=(6, 6), mode="bilinear", align_corners=True) | x f 1,2,3,3
interpolate_size | F.interpolate(x, size=(6, 6)) | x f 1,2,3,3
pad_constant | F.pad(x, (1, 1, 2, 2), value=0.5) | x f 1,2,3,3
grid_of | torch.stack(torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")).float() + x | x f 3
bfloat16 | x.bfloat16() | x f 3
bfloat16_and_back | x.to(torch.bfloat16).float() | x f 3
to_double | x.double() | x f 3
to_int8 | x.to(torch.int8) | x f 3
to_uint8 | x.to(torch.uint8) | x f 3
is_floating | x * float(x.is_floating_point()) | x f 3
shape_of | x.view(x.size(0), -1) | x f 2,3,4
numel | x.sum() / x.numel() | x f 2,3
dead_erfinv | y = torch.erfinv(x); x + 1 | x f 3
dead_nonzero | y = x.nonzero(); x + 1 | x f 3
dead_lerp | y = torch.lerp(x, x, 0.5); x + 1 | x f 3
dead_item | y = x.sum().item(); x + 1 | x f 3
dead_in_place | y = x.clone(); y[0] = torch.erfinv(x)[1]; x + 1 | x f 3
dead_branch | y = torch.quantile(x, 0.5); x + 1 if x.dim() else y | x f 3
"""

OTHERS = """
bits_or_number | torch.bitwise_or(x, 4) | x i 3
bits_xor_number | x ^ 1 | x i 3
bits_and_in_place | x = x * 1; x.bitwise_and_(1) | x i 3
gather_with_dtype_of | torch.gather(x, 0, torch.arange(3, dtype=x.dtype)) | x i 3
gather_int32 | torch.gather(x, 0, i) | x f 3; i i32 3
gather_cast_to_dtype_of | torch.gather(x, 0, y.round().to(x.dtype)) | x i 3; y f 3
select_with_dtype_of | x[torch.full((2,), 1, dtype=x.dtype)] | x i 3
embedding_with_dtype_of | F.embedding(torch.arange(3, dtype=x.dtype), y) | x i 3; y f 3,2
one_hot_with_dtype_of | F.one_hot(torch.arange(4, dtype=x.dtype), 4) | x i 1
labels_with_dtype_of | F.cross_entropy(y, torch.zeros(2, dtype=x.dtype)) | x i 1; y f 2,3
labels_int32 | F.nll_loss(y, t) | y f 2,3; t i32 2
scatter_with_dtype_of | torch.zeros(4, dtype=x.dtype).scatter_(0, x, x) | x i 3
scatter_add_with_dtype_of | torch.zeros(4, dtype=torch.long).scatter_add_(0, x, torch.ones(3, dtype=x.dtype)) | x i 3
index_put_with_dtype_of | torch.zeros(4, dtype=x.dtype).index_put_((x,), x) | x i 3
cumsum_out_of_integers | o = torch.empty(3, dtype=x.dtype); torch.cumsum(x, dim=0, out=o); o | x i 3
sum_out_of_integers | o = torch.empty(3, dtype=x.dtype); torch.sum(x, dim=(0,), out=o); o | x i 2,3
prod_out_of_integers | o = torch.empty(3, dtype=x.dtype); torch.prod(x, dim=0, out=o); o | x i 2,3
addmm_half_weights | torch.addmm(b, x, w) | x f 2,3; w h 3,4; b h 4
addmm_half_input | torch.addmm(b, x, w) | x h 2,3; w f 3,4; b f 4
addmm_half_bias | torch.addmm(b, x, w) | x f 2,3; w f 3,4; b h 4
long_changed | y = x.long(); y.add_(1); (x, y) | x i 3
int_changed | y = x.int(); y.add_(1); (x, y) | x i 3
gradient_square | x.requires_grad_(); torch.autograd.grad((x * x).sum(), x)[0] | x f 3
gradient_half | x.requires_grad_(); torch.autograd.grad((x * x).sum(), x)[0] | x h 3
gradient_exp | x.requires_grad_(); torch.autograd.grad(x.exp().sum(), x)[0] | x f 3
gradient_sin | x.requires_grad_(); torch.autograd.grad(x.sin().sum(), x)[0] | x f 3
gradient_log | x.requires_grad_(); torch.autograd.grad(x.log().sum(), x)[0] | x f 3
gradient_sqrt | x.requires_grad_(); torch.autograd.grad(x.sqrt().sum(), x)[0] | x f 3
gradient_power | x.requires_grad_(); torch.autograd.grad((x ** 3).sum(), x)[0] | x f 3
gradient_division | x.requires_grad_(); torch.autograd.grad((1 / x).sum(), x)[0] | x f 3
gradient_abs | x.requires_grad_(); torch.autograd.grad(x.abs().sum(), x)[0] | x f 3
gradient_tanh | x.requires_grad_(); torch.autograd.grad(x.tanh().sum(), x)[0] | x f 3
gradient_sigmoid | x.requires_grad_(); torch.autograd.grad(x.sigmoid().sum(), x)[0] | x f 3
gradient_relu | x.requires_grad_(); torch.autograd.grad(x.relu().sum(), x)[0] | x f 3
gradient_silu | x.requires_grad_(); torch.autograd.grad(F.silu(x).sum(), x)[0] | x f 3
gradient_gelu | x.requires_grad_(); torch.autograd.grad(F.gelu(x).sum(), x)[0] | x f 3
gradient_softplus | x.requires_grad_(); torch.autograd.grad(F.softplus(x).sum(), x)[0] | x f 3
gradient_softmax | x.requires_grad_(); torch.autograd.grad(x.softmax(0)[0], x)[0] | x f 3
gradient_mean | x.requires_grad_(); torch.autograd.grad(x.mean(), x)[0] | x f 2,3
gradient_norm | x.requires_grad_(); torch.autograd.grad(x.norm(), x)[0] | x f 3
gradient_max | x.requires_grad_(); torch.autograd.grad(x.max(), x)[0] | x f 3
gradient_matmul | x.requires_grad_(); torch.autograd.grad((x @ x.t()).sum(), x)[0] | x f 2,3
gradient_cat | x.requires_grad_(); torch.autograd.grad(torch.cat([x, x * 2]).sum(), x)[0] | x f 3
gradient_slice | x.requires_grad_(); torch.autograd.grad(x[1:].sum(), x)[0] | x f 3
gradient_select | x.requires_grad_(); torch.autograd.grad(x[1].sum(), x)[0] | x f 3,2
gradient_gather | x.requires_grad_(); torch.autograd.grad(x.gather(0, i).sum(), x)[0] | x f 3; i i 3
gradient_index_select | x.requires_grad_(); torch.autograd.grad(x.index_select(0, i).sum(), x)[0] | x f 3; i i 2
gradient_where | x.requires_grad_(); torch.autograd.grad(torch.where(x > 0.5, x, x * 2).sum(), x)[0] | x f 3
gradient_clamp | x.requires_grad_(); torch.autograd.grad(x.clamp(0.2, 0.5).sum(), x)[0] | x f 3
gradient_linear | x.requires_grad_(); torch.autograd.grad(F.linear(x, w, b).sum(), x)[0] | x f 2,3; w f 4,3; b f 4
gradient_conv2d | x.requires_grad_(); torch.autograd.grad(F.conv2d(x, w).sum(), x)[0] | x f 1,2,4,4; w f 3,2,3,3
gradient_layer_norm | x.requires_grad_(); torch.autograd.grad(F.layer_norm(x, (3,))[0, 0], x)[0] | x f 2,3
gradient_max_pool | x.requires_grad_(); torch.autograd.grad(F.max_pool2d(x, 2).sum(), x)[0] | x f 1,1,4,4
gradient_dropout | x.requires_grad_(); torch.autograd.grad(F.dropout(x, 0.5, False).sum(), x)[0] | x f 3
gradient_dropout_beside | x.requires_grad_(); torch.autograd.grad((x * F.dropout(x, 0.5, False)).sum(), x)[0] | x f 3
gradient_mse | x.requires_grad_(); torch.autograd.grad(F.mse_loss(x, y), x)[0] | x f 3; y f 3
gradient_cross_entropy | x.requires_grad_(); torch.autograd.grad(F.cross_entropy(x, t), x)[0] | x f 4,3; t i 4
gradient_of_weight | torch.autograd.grad((x * self.w * self.w).sum(), self.w)[0] | x f 3
gradient_of_activation | h = x * self.w; torch.autograd.grad((h * h).sum(), h)[0] | x f 3
gradient_second | x.requires_grad_(); g = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)[0]; torch.autograd.grad(g.sum(), x)[0] | x f 3
gradient_twice | x.requires_grad_(); e = (x * x).sum(); torch.autograd.grad(e, x)[0]; torch.autograd.grad(e, x)[0] | x f 3
gradient_vector | x.requires_grad_(); torch.autograd.grad(x * x, x, y)[0] | x f 3; y f 3
gradient_of_vector_alone | x.requires_grad_(); torch.autograd.grad(x * x, x)[0] | x f 3
gradient_without_requiring | torch.autograd.grad((x * x).sum(), x)[0] | x f 3
gradient_unused | x.requires_grad_(); y.requires_grad_(); torch.autograd.grad((x * x).sum(), y)[0] | x f 3; y f 3
gradient_unused_allowed | x.requires_grad_(); y.requires_grad_(); torch.autograd.grad((x * x).sum(), [x, y], allow_unused=True)[0] | x f 3; y f 3
gradient_nop | x.requires_grad_(); torch.autograd.grad(poptorch.nop(x * x).sum(), x)[0] | x f 3
gradient_no_grad | x.requires_grad_(); c = torch.no_grad(); c.__enter__(); e = (x * x).sum(); c.__exit__(None, None, None); torch.autograd.grad(e, x)[0] | x f 3
backward_and_grad | x.requires_grad_(); (x * x).sum().backward(); x.grad | x f 3
backward_of_nothing | x.sum().backward(); x | x f 3
input_bfloat16 | x + 1 | x bf 3
input_bfloat16_output | x | x bf 3
input_bfloat16_to_float | x.float() | x bf 3
input_int32 | x * 2 | x i32 3
uint8_plus | x + 1 | x u8 3
uint8_image | (x.float() / 255.0 - 0.5).half() | x u8 1,3,4,4
long_output | x | x i 3
long_argmax | x.argmax(), x.argmax().float() | x f 3
bool_output | x > 0.5 | x f 3
bool_to_float | (x > 0.5).float() | x f 3
bool_times_float | (x > 0.5) * x | x f 3
int_minimum | torch.minimum(x, y) | x i 3; y i 3
int_clamp | x.clamp(0, 2) | x i 3
int_modulo | x % 2 | x i 3
int_where | torch.where(x > 0, x, y) | x i 3; y i 3
int_max | x.max() | x i 3
int_matmul | x @ y | x i 2,3; y i 3,2
int_power | x ** 2 | x i 3
int_abs | x.abs() | x i 3
int_neg | -x | x i 3
int_sort | x.sort()[0] | x i 3
int_topk | x.topk(2)[0] | x i 3
int_one_hot_float | F.one_hot(x, 4).float() | x i 3
int_cat_float | torch.cat([x, y]) | x i 3; y f 3
list_result | [x + 1, x * 2] | x f 3
dict_result | {"a": x + 1, "b": [x, x * 2]} | x f 3
nested_result | (x, (x + 1, [x * 2])) | x f 3
none_result | None | x f 3
number_result | x, 3 | x f 3
text_result | x, "text" | x f 3
empty_result | () | x f 3
same_result_twice | y = x * 2; (y, y) | x f 3
input_returned | x | x f 3
weight_returned | self.w | x f 3
buffer_counted | self.b.add_(1.0); x + self.b | x f 3
buffer_reassigned | self.b = self.b + 1.0; x + self.b | x f 3
weight_changed | self.w.data.mul_(2.0); x * self.w | x f 3
print_tensor | poptorch.ipu_print_tensor(x, "x") | x f 3
serialized_matmul | poptorch.serializedMatMul(x, y, poptorch.MatMulSerializationMode.OutputChannels, factor=2) | x f 2,4; y f 4,4
multi_conv | with poptorch.MultiConv(): y = F.conv2d(x, w); z = F.conv2d(x, w * 2); y + z | x f 1,2,4,4; w f 2,2,3,3
for_loop | poptorch.for_loop(3, lambda a: a * 2, [x])[0] | x f 3
for_loop_two | poptorch.for_loop(3, lambda a, b: (a + b, b), [x, y]) | x f 3; y f 3
for_loop_no_list | poptorch.for_loop(3, lambda a: a * 2, x) | x f 3
for_loop_unsupported | poptorch.for_loop(3, lambda a: a.erfinv(), [x])[0] | x f 3
cond | poptorch.cond(c, lambda a: a * 2, [x], lambda a: a + 1, [x])[0] | x f 3; c b 1
dynamic_slice | poptorch.dynamic_slice(x, 0, i, 2, 1) | x f 4; i i 1
dynamic_update | poptorch.dynamic_update(x, y, 0, i, 2) | x f 4; y f 2; i i 1
internal_cast | torch.ops.poptorch.internal_cast(x, "FLOAT16") | x f 3
name_scope | with poptorch.NameScope("a"): y = x * 2; y | x f 3
attribute | with poptorch.Attribute(__outline={"layer": "a"}): y = x * 2; y | x f 3
cpu_function | poptorch.CPU(lambda a: a * 2, "twice")(x) | x f 3
checkpoint | poptorch.recomputationCheckpoint(x * 2) | x f 3
recomputation_list | poptorch.recomputationCheckpoint(x, y) | x f 3; y f 3
overlap | poptorch.set_overlap_for_output(x * 2, poptorch.OverlapMode.NoOverlap) | x f 3
fps | poptorch.fps(x, [0, 4], 0.5) | x f 4,2
running_on_ipu | x if poptorch.isRunningOnIpu() else y | x f 3; y f 4
torch_checkpoint | torch.utils.checkpoint.checkpoint(lambda a: a * 2, x, use_reentrant=False) | x f 3
jit_function | torch.jit.script(F.relu)(x) if False else F.relu(x) | x f 3
assertion | assert x.shape == (3,); x * 2 | x f 3
value_assertion | assert (x > 0).all(); x * 2 | x f 3
to_list | x.tolist() | x f 3
numpy | torch.from_numpy(x.numpy()) | x f 3
length | x * len(x) | x f 3
iterate | sum(row for row in x) | x f 2,3
zip_rows | torch.stack([a * b for a, b in zip(x, y)]) | x f 2,3; y f 2,3
python_sum | sum([x, x * 2]) | x f 3
complex_view | torch.view_as_complex(x) | x f 3,2
cuda | x.cuda() | x f 3
data | x.data + 1 | x f 3
contiguous | x.t().contiguous() | x f 2,3
copy_deep | __import__("copy").deepcopy(x) | x f 3
constant_outside | x + torch.as_tensor([1.0, 2.0, 3.0]) | x f 3
constant_moved | x + torch.as_tensor([1.0, 2.0, 3.0]).to(x.device) | x f 3
linspace | x + torch.linspace(0, 1, 3) | x f 3
full | x + torch.full((3,), 2.0) | x f 3
empty | torch.empty(3).fill_(1.0) + x | x f 3
randint | torch.randint(0, 4, (3,)) + x | x f 3
manual_seed | torch.manual_seed(1); x + torch.rand(3) | x f 3
zeros_half | x + torch.zeros(3) | x h 3
number_tensor | x * torch.tensor(2.0) | x h 3
"""

MODULES = """
nn_conv_bn_relu | nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)) | x f 2,3,5,5
nn_conv_transpose | nn.ConvTranspose2d(3, 2, 2, stride=2) | x f 1,3,4,4
nn_layer_norm | nn.LayerNorm(3) | x f 2,3
nn_layer_norm_mixed | nn.LayerNorm(3) | x h 2,3
nn_layer_norm_plain | nn.LayerNorm(3, elementwise_affine=False) | x f 2,3
nn_embedding_padded | nn.Embedding(5, 3, padding_idx=0) | x i 4
nn_lstm_bidirectional | nn.LSTM(3, 4, bidirectional=True) | x f 5,2,3
nn_lstm_batch_first | nn.LSTM(3, 4, batch_first=True) | x f 2,5,3
nn_gru_two_layers | nn.GRU(3, 4, num_layers=2) | x f 5,2,3
nn_lstm_cell | nn.LSTMCell(3, 4) | x f 2,3
nn_transformer_encoder | nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), 2) | x f 5,2,4
nn_softmax | nn.Softmax(dim=1) | x f 2,3
nn_upsample | nn.Upsample(scale_factor=2) | x f 1,2,3,3
nn_adaptive | nn.AdaptiveAvgPool2d((1, 1)) | x f 1,2,4,4
nn_zero_pad | nn.ZeroPad2d(1) | x f 1,2,3,3
nn_reflection_pad | nn.ReflectionPad2d(1) | x f 1,2,3,3
nn_flatten | nn.Flatten() | x f 2,3,4
nn_unflatten | nn.Unflatten(1, (2, 2)) | x f 2,4
nn_identity | nn.Identity() | x f 2,3
nn_dropout_eval | nn.Dropout(0.5).eval() | x f 2,3
nn_bilinear_half | nn.Conv2d(3, 4, 3).half() | x h 1,3,5,5
nn_spectral_norm | nn.utils.spectral_norm(nn.Linear(3, 4)) | x f 2,3
nn_parametrized_weight_norm | nn.utils.weight_norm(nn.Conv2d(3, 4, 3)) | x f 1,3,5,5
nn_local_response | nn.LocalResponseNorm(2) | x f 1,4,3,3
nn_pixel_shuffle | nn.PixelShuffle(2) | x f 1,4,2,2
nn_cosine | nn.CosineSimilarity() | x f 2,3
nn_sync_batch_norm | nn.SyncBatchNorm(3) | x f 2,3,4,4
"""

TRAINED = """
train_buffer_written | y = x * self.w + self.b; self.b.copy_(y.sum().reshape(1)); poptorch.identity_loss(y.sum(), "none") | x f 4
train_buffer_averaged | y = x * self.w + self.b; self.b.mul_(0.9).add_(y.mean()); poptorch.identity_loss(y.sum(), "none") | x f 4
train_mse | F.mse_loss(self.w * x, x) | x f 4,3
train_bce | F.binary_cross_entropy_with_logits(self.w * x, x) | x f 4,3
train_none_then_mean | poptorch.identity_loss(F.mse_loss(self.w * x, x, reduction="none"), "mean") | x f 4,3
train_reduction_none | F.mse_loss(self.w * x, x, reduction="none") | x f 4,3
train_output_and_loss | y = self.w * x; (y, F.mse_loss(y, x)) | x f 4,3
train_loss_in_dict | {"loss": F.mse_loss(self.w * x, x)} | x f 4,3
train_identity_half | poptorch.identity_loss((self.w.half() * x).float(), "mean") | x h 4,3
train_penalty | x.requires_grad_(); e = (x * x * self.w).sum(); g = torch.autograd.grad(e, x, create_graph=True)[0]; poptorch.identity_loss((g * g).sum(), "none") | x f 4,3
train_forces | x.requires_grad_(); e = (x * x * self.w).sum(); g = torch.autograd.grad(e, x)[0]; F.mse_loss(g, x) | x f 4,3
train_no_grad_part | c = torch.no_grad(); c.__enter__(); y = self.w * x; c.__exit__(None, None, None); F.mse_loss(y * self.w, x) | x f 4,3
train_for_loop | poptorch.identity_loss(poptorch.for_loop(2, lambda a: a * self.w, [x])[0], "sum") | x f 4,3
train_dead_erfinv | y = torch.erfinv(x); F.mse_loss(self.w * x, x) | x f 4,3
train_ctc | F.ctc_loss((self.w * x).log_softmax(2), t, n, m) | x f 5,2,4; t i 2,3; n i 2; m i 2
train_hinge | F.hinge_embedding_loss(self.w * x, x) | x f 4,3
train_loss_not_returned | loss = F.mse_loss(self.w * x, x); x + 1 | x f 4,3
train_masked | poptorch.identity_loss(torch.masked.sum(self.w * x, 1, mask=x > 0.5), "sum") | x f 4,3
train_huber | F.huber_loss(self.w * x, x) | x f 4,3
train_weight_decay | F.mse_loss(self.w * x, x) + 0.1 * self.w.square().sum() | x f 4,3
train_weight_decay_marked | poptorch.identity_loss(F.mse_loss(self.w * x, x) + 0.1 * self.w.square().sum(), "none") | x f 4,3
train_label_smoothing | F.cross_entropy(self.w * x, t, label_smoothing=0.1) | x f 4,3; t i 4
train_label_smoothing_none | poptorch.identity_loss(F.cross_entropy(self.w * x, t, label_smoothing=0.1, reduction="none"), "mean") | x f 4,3; t i 4
"""

SEQUENCES = """
train_and_save_state | t(x); sorted(t.state_dict())
train_optimizer_state | t(x); len(t.optimizer.state_dict()) if hasattr(t, "optimizer") else 0
train_eval_switch | t(x); t.eval(); t.training
model_attribute | t(x); t.l.weight.detach().clone()
model_parameters | t(x); len(list(t.parameters()))
copy_after_training | t(x); t.copyWeightsToHost(); e(x)
train_then_destroy_then_infer | t(x); t.destroy(); e(x)
infer_then_train | e(x); t(x)[1]; e(x)
new_learning_rate | t(x); t.setOptimizer(torch.optim.SGD(m.parameters(), lr=0.01)); t(x)[1]
other_optimizer | t(x); t.setOptimizer(torch.optim.Adam(m.parameters(), lr=0.01)); t(x)[1]
two_groups | t(x); t.setOptimizer(torch.optim.SGD([{"params": [m.l.weight]}, {"params": [m.l.bias]}], lr=0.01)); t(x)[1]
momentum_appears | t(x); t.setOptimizer(torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)); t(x)[1]
compile_twice | e.compile(x); e.compile(x); e(x)
no_arguments | e()
too_many_arguments | e(x, x)
keyword | e(x=x)
wrong_keyword | e(y=x)
numpy_argument | e(x.numpy())
list_argument | e([x])
zero_sized | e(x[:0])
not_contiguous | e(x.t().contiguous().t())
is_compiled | e.isCompiled(), (e(x), e.isCompiled())[1]
cycle_count | e(x); e.cycleCount() > 0
latency | e(x); len(e.getLatency())
perf_counters | e(x); len(e.getPerfCounters())
tensor_names | e(x); len(e.getTensorNames()) > 0
tensor_names_before | e.getTensorNames()
infer_with_trained_weights | t(x); m.l.weight.data.zero_(); e(x)
pickle_the_model | __import__("pickle").loads(__import__("pickle").dumps(m.l)).weight
"""
