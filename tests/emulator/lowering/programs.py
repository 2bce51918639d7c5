"""Tiny programs, each one operator or construct, to be put through the emulator and through PopTorch's own front end.

A line of the table is a name, what forward does, and its inputs (``x f 2,3`` is a float tensor of shape [2, 3]). Lines
of :data:`FLOATING` stand for several programs: all inputs marked ``f`` in float32, all in float16, and, where there are
several, the first in float16 with the others in float32 and the other way round.
"""

from typing import Any, Dict, Iterator, List

import torch

from . import more_programs as more

DTYPES = {
    "f": torch.float32, "h": torch.float16, "i": torch.int64, "i32": torch.int32, "i16": torch.int16,
    "i8": torch.int8, "u8": torch.uint8, "b": torch.bool, "d": torch.float64, "c": torch.complex64,
    "bf": torch.bfloat16,
}  # fmt: skip

FLOATING = """
abs | torch.abs(x) | x f 2,3
add | x + y | x f 2,3; y f 2,3
add_broadcast | x + y | x f 2,3; y f 3
add_number | x + 1.5 | x f 2,3
add_alpha | torch.add(x, y, alpha=2) | x f 3; y f 3
add_scalar_tensor | x + y | x f 2,3; y f
sub | x - y | x f 2,3; y f 2,3
rsub | 1.0 - x | x f 2,3
mul | x * y | x f 2,3; y f 2,3
div | x / y | x f 2,3; y f 2,3
div_floor | torch.div(x, y, rounding_mode="floor") | x f 3; y f 3
pow | x ** y | x f 2; y f 2
pow_number | x ** 2 | x f 2
fmod | torch.fmod(x, y) | x f 3; y f 3
remainder | x % y | x f 3; y f 3
atan2 | torch.atan2(x, y) | x f 3; y f 3
maximum | torch.maximum(x, y) | x f 3; y f 3
clamp | x.clamp(0.2, 0.5) | x f 3
clamp_min | x.clamp(min=0.2) | x f 3
where | torch.where(x > 0.5, x, y) | x f 3; y f 3
masked_fill | x.masked_fill(x > 0.5, 0.0) | x f 3
addcmul | torch.addcmul(x, y, z) | x f 3; y f 3; z f 3
addcdiv | torch.addcdiv(x, y, z) | x f 3; y f 3; z f 3
equal_to | x == y | x f 3; y f 3
less | x < y | x f 3; y f 3
exp | x.exp() | x f 3
expm1 | x.expm1() | x f 3
log | x.log() | x f 3
log1p | x.log1p() | x f 3
log2 | x.log2() | x f 3
sqrt | x.sqrt() | x f 3
rsqrt | x.rsqrt() | x f 3
square | x.square() | x f 3
reciprocal | x.reciprocal() | x f 3
sin | x.sin() | x f 3
tan | x.tan() | x f 3
asin | x.asin() | x f 3
sinh | x.sinh() | x f 3
acosh | (x + 1).acosh() | x f 3
erf | x.erf() | x f 3
sign | x.sign() | x f 3
floor | x.floor() | x f 3
trunc | x.trunc() | x f 3
frac | x.frac() | x f 3
isnan | x.isnan() | x f 3
nan_to_num | x.nan_to_num() | x f 3
erfinv | x.erfinv() | x f 3
ndtri | torch.special.ndtri(x) | x f 3
lerp | torch.lerp(x, y, 0.5) | x f 3; y f 3
quantile | torch.quantile(x, 0.5) | x f 5
tril | x.tril() | x f 3,3
triu | x.triu() | x f 3,3
hypot | torch.hypot(x, y) | x f 3; y f 3
logaddexp | torch.logaddexp(x, y) | x f 3; y f 3
exp2 | x.exp2() | x f 3
sinc | x.sinc() | x f 3
logit | x.logit() | x f 3
trace | x.trace() | x f 3,3
diagonal | x.diagonal() | x f 3,3
cummax | x.cummax(0)[0] | x f 3
logcumsumexp | x.logcumsumexp(0) | x f 3
i0 | torch.i0(x) | x f 3
copysign | torch.copysign(x, y) | x f 3; y f 3
heaviside | torch.heaviside(x, y) | x f 3; y f 3
xlogy | torch.xlogy(x, y) | x f 3; y f 3
lgamma | x.lgamma() | x f 3
float_power | torch.float_power(x, 2) | x f 3
relu | F.relu(x) | x f 2,3
relu6 | F.relu6(x) | x f 2,3
leaky_relu | F.leaky_relu(x) | x f 2,3
elu | F.elu(x) | x f 2,3
celu | F.celu(x) | x f 2,3
selu | F.selu(x) | x f 2,3
gelu | F.gelu(x) | x f 2,3
gelu_tanh | F.gelu(x, approximate="tanh") | x f 2,3
silu | F.silu(x) | x f 2,3
mish | F.mish(x) | x f 2,3
hardswish | F.hardswish(x) | x f 2,3
hardsigmoid | F.hardsigmoid(x) | x f 2,3
hardshrink | F.hardshrink(x) | x f 2,3
softshrink | F.softshrink(x) | x f 2,3
softplus | F.softplus(x) | x f 2,3
softsign | F.softsign(x) | x f 2,3
logsigmoid | F.logsigmoid(x) | x f 2,3
tanhshrink | F.tanhshrink(x) | x f 2,3
glu | F.glu(x) | x f 2,4
threshold | F.threshold(x, 0.5, 0.0) | x f 2,3
prelu | F.prelu(x, w) | x f 2,3; w f 3
softmax | F.softmax(x, 1) | x f 2,3
log_softmax | F.log_softmax(x, 1) | x f 2,3
gumbel_softmax | F.gumbel_softmax(x) | x f 2,3
sum | x.sum() | x f 2,3
sum_dim | x.sum(1, keepdim=True) | x f 2,3
mean | x.mean((0, 1)) | x f 2,3
var | x.var(1) | x f 2,3
std | x.std() | x f 2,3
var_mean | torch.var_mean(x, 1) | x f 2,3
var_mean_keepdim | torch.var_mean(x, 1, keepdim=True) | x f 2,3
std_mean_keepdim | torch.std_mean(x, 1, keepdim=True) | x f 2,3
prod | x.prod(1) | x f 2,3
max_dim | x.max(1) | x f 2,3
amax | x.amax((0, 1)) | x f 2,3
argmax | x.argmax(1) | x f 2,3
topk | x.topk(2) | x f 2,3
sort | x.sort(1) | x f 2,3
argsort | x.argsort(1) | x f 2,3
median | x.median(1)[0] | x f 2,3
kthvalue | x.kthvalue(2)[0] | x f 2,3
cumsum | x.cumsum(1) | x f 2,3
cumprod | x.cumprod(1) | x f 2,3
norm | x.norm() | x f 2,3
vector_norm | torch.linalg.vector_norm(x, 3) | x f 2,3
matrix_norm_2 | torch.linalg.matrix_norm(x, 2) | x f 3,3
count_nonzero | x.count_nonzero() | x f 2,3
logsumexp | x.logsumexp(1) | x f 2,3
all | (x > 0).all() | x f 2,3
matmul | x @ y | x f 2,3; y f 3,4
mm | torch.mm(x, y) | x f 2,3; y f 3,4
bmm | torch.bmm(x, y) | x f 2,3,4; y f 2,4,5
mv | torch.mv(x, y) | x f 2,3; y f 3
dot | torch.dot(x, y) | x f 3; y f 3
addmm | torch.addmm(z, x, y) | z f 2,4; x f 2,3; y f 3,4
baddbmm | torch.baddbmm(z, x, y) | z f 2,3,5; x f 2,3,4; y f 2,4,5
addmv | torch.addmv(z, x, y) | z f 2; x f 2,3; y f 3
addbmm | torch.addbmm(z, x, y) | z f 3,5; x f 2,3,4; y f 2,4,5
outer | torch.outer(x, y) | x f 2; y f 3
einsum | torch.einsum("ij,jk->ik", x, y) | x f 2,3; y f 3,4
tensordot | torch.tensordot(x, y, 1) | x f 2,3; y f 3,4
linear | F.linear(x, w, b) | x f 2,3; w f 4,3; b f 4
linear_no_bias | F.linear(x, w) | x f 2,3; w f 4,3
bilinear | F.bilinear(x, y, w, b) | x f 2,3; y f 2,4; w f 5,3,4; b f 5
inverse | torch.linalg.inv(x) | x f 3,3
conv1d | F.conv1d(x, w, b) | x f 2,3,5; w f 4,3,3; b f 4
conv2d | F.conv2d(x, w, b) | x f 2,3,5,5; w f 4,3,3,3; b f 4
conv2d_no_bias | F.conv2d(x, w, padding=1) | x f 2,3,5,5; w f 4,3,3,3
conv3d | F.conv3d(x, w, b) | x f 1,2,3,3,3; w f 4,2,2,2,2; b f 4
conv_transpose2d | F.conv_transpose2d(x, w) | x f 2,3,5,5; w f 3,4,3,3
conv_transpose2d_dilated | F.conv_transpose2d(x, w, dilation=2) | x f 2,3,5,5; w f 3,4,3,3
batch_norm | F.batch_norm(x, m, v, w, b, training=True) | x f 4,3,2; m f 3; v f 3; w f 3; b f 3
layer_norm | F.layer_norm(x, (3,), w, b) | x f 2,3; w f 3; b f 3
layer_norm_no_bias | F.layer_norm(x, (3,), w) | x f 2,3; w f 3
group_norm | F.group_norm(x, 2, w, b) | x f 2,4,3; w f 4; b f 4
instance_norm | F.instance_norm(x) | x f 2,3,4
local_response_norm | F.local_response_norm(x, 2) | x f 2,3,4,4
normalize | F.normalize(x) | x f 2,3
max_pool2d | F.max_pool2d(x, 2) | x f 1,2,4,4
max_pool2d_ceil | F.max_pool2d(x, 2, ceil_mode=True) | x f 1,2,5,5
max_pool2d_indices | F.max_pool2d(x, 2, return_indices=True) | x f 1,2,4,4
avg_pool2d | F.avg_pool2d(x, 2) | x f 1,2,4,4
avg_pool3d | F.avg_pool3d(x, 2) | x f 1,2,4,4,4
max_pool3d | F.max_pool3d(x, 2) | x f 1,2,4,4,4
adaptive_avg_pool2d | F.adaptive_avg_pool2d(x, 2) | x f 1,2,4,4
adaptive_avg_pool2d_uneven | F.adaptive_avg_pool2d(x, 3) | x f 1,2,4,4
adaptive_max_pool2d | F.adaptive_max_pool2d(x, 2) | x f 1,2,4,4
lp_pool2d | F.lp_pool2d(x, 2, 2) | x f 1,2,4,4
interpolate_nearest | F.interpolate(x, scale_factor=2) | x f 1,2,3,3
interpolate_bilinear | F.interpolate(x, scale_factor=2, mode="bilinear") | x f 1,2,3,3
interpolate_bicubic | F.interpolate(x, scale_factor=2, mode="bicubic") | x f 1,2,3,3
interpolate_bicubic_corners | F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=True) | x f 1,2,3,3
interpolate_linear | F.interpolate(x, scale_factor=2, mode="linear") | x f 1,2,3
interpolate_area | F.interpolate(x, scale_factor=0.5, mode="area") | x f 1,2,4,4
grid_sample | F.grid_sample(x, g, align_corners=False) | x f 1,1,4,4; g f 1,2,2,2
pad_reflect | F.pad(x, (1, 1), mode="reflect") | x f 1,2,4
pad_replicate | F.pad(x, (1, 1), mode="replicate") | x f 1,2,4
pad_circular | F.pad(x, (1, 1), mode="circular") | x f 1,2,4
pixel_shuffle | F.pixel_shuffle(x, 2) | x f 1,4,2,2
pixel_unshuffle | F.pixel_unshuffle(x, 2) | x f 1,1,4,4
channel_shuffle | F.channel_shuffle(x, 2) | x f 1,4,2,2
unfold_images | F.unfold(x, 2) | x f 1,2,4,4
fold_images | F.fold(x, (4, 4), 2) | x f 1,8,9
dropout | F.dropout(x, 0.5) | x f 2,3
dropout2d | F.dropout2d(x, 0.5) | x f 2,3,2,2
alpha_dropout | F.alpha_dropout(x, 0.5, training=True) | x f 2,3
mse_loss | F.mse_loss(x, y) | x f 2,3; y f 2,3
l1_loss | F.l1_loss(x, y) | x f 2,3; y f 2,3
smooth_l1_loss | F.smooth_l1_loss(x, y) | x f 2,3; y f 2,3
huber_loss | F.huber_loss(x, y) | x f 2,3; y f 2,3
binary_cross_entropy | F.binary_cross_entropy(x, y) | x f 2,3; y f 2,3
bce_with_logits | F.binary_cross_entropy_with_logits(x, y) | x f 2,3; y f 2,3
kl_div | F.kl_div(x, y, reduction="batchmean") | x f 2,3; y f 2,3
poisson_nll_loss | F.poisson_nll_loss(x, y) | x f 2,3; y f 2,3
gaussian_nll_loss | F.gaussian_nll_loss(x, y, v) | x f 2,3; y f 2,3; v f 2,3
hinge_embedding_loss | F.hinge_embedding_loss(x, y) | x f 2,3; y f 2,3
margin_ranking_loss | F.margin_ranking_loss(x, y, z) | x f 3; y f 3; z f 3
soft_margin_loss | F.soft_margin_loss(x, y) | x f 2,3; y f 2,3
triplet_margin_loss | F.triplet_margin_loss(x, y, z) | x f 2,3; y f 2,3; z f 2,3
cosine_embedding_loss | F.cosine_embedding_loss(x, y, t) | x f 2,3; y f 2,3; t f 2
multilabel_soft_margin_loss | F.multilabel_soft_margin_loss(x, y) | x f 2,3; y f 2,3
cosine_similarity | F.cosine_similarity(x, y) | x f 2,3; y f 2,3
pairwise_distance | F.pairwise_distance(x, y) | x f 2,3; y f 2,3
cdist | torch.cdist(x, y) | x f 2,3; y f 4,3
pdist | F.pdist(x) | x f 3,2
cross | torch.cross(x, y, dim=1) | x f 2,3; y f 2,3
cross_entropy | F.cross_entropy(x, t) | x f 4,3; t i 4
cross_entropy_smoothed | F.cross_entropy(x, t, label_smoothing=0.1) | x f 4,3; t i 4
cross_entropy_weighted | F.cross_entropy(x, t, w) | x f 4,3; t i 4; w f 3
cross_entropy_probabilities | F.cross_entropy(x, y) | x f 4,3; y f 4,3
cross_entropy_images | F.cross_entropy(x, t) | x f 2,3,2,2; t i 2,2,2
nll_loss | F.nll_loss(x, t) | x f 4,3; t i 4
multi_margin_loss | F.multi_margin_loss(x, t) | x f 4,3; t i 4
gather | x.gather(1, i) | x f 2,3; i i 2,3
scatter | x.scatter(1, i, y) | x f 2,3; i i 2,3; y f 2,3
scatter_add | x.scatter_add(1, i, y) | x f 2,3; i i 2,3; y f 2,3
scatter_reduce | x.scatter_reduce(1, i, y, "amax") | x f 2,3; i i 2,3; y f 2,3
index_select | x.index_select(0, i) | x f 3,2; i i 2
index_add | x.index_add(0, i, y) | x f 3,2; i i 2; y f 2,2
index_copy | x.index_copy(0, i, y) | x f 3,2; i i 2; y f 2,2
index_fill | x.index_fill(0, i, 1.0) | x f 3,2; i i 2
index_reduce | x.index_reduce(0, i, y, "prod") | x f 3,2; i i 2; y f 2,2
take_along_dim | torch.take_along_dim(x, i, 1) | x f 2,3; i i 2,3
take | torch.take(x, i) | x f 2,3; i i 2
embedding | F.embedding(i, w) | i i 4; w f 5,3
embedding_sparse | F.embedding(i, w, sparse=True) | i i 4; w f 5,3
reshape | x.reshape(3, 2) | x f 2,3
flatten | x.flatten() | x f 2,3
permute | x.permute(1, 0) | x f 2,3
transpose | x.transpose(0, 1) | x f 2,3
expand | x.expand(4, 3) | x f 1,3
repeat | x.repeat(2, 2) | x f 2,3
repeat_interleave | x.repeat_interleave(2, 0) | x f 2,3
roll | x.roll(1, 0) | x f 2,3
flip | x.flip(0) | x f 2,3
rot90 | x.rot90() | x f 2,3
cat | torch.cat([x, y]) | x f 2,3; y f 2,3
stack | torch.stack([x, y]) | x f 2,3; y f 2,3
split | x.split(1, 0) | x f 2,3
chunk | x.chunk(2, 1) | x f 2,4
unbind | x.unbind(0) | x f 2,3
tensor_unfold | x.unfold(0, 2, 1) | x f 4
as_strided | x.as_strided((2,), (1,)) | x f 4
meshgrid | torch.meshgrid(x, y, indexing="ij") | x f 2; y f 3
slice | x[:, 1:] | x f 2,3
slice_step | x[::2] | x f 4
select | x[1] | x f 2,3
index_tensor | x[i] | x f 3,2; i i 2
index_list | x[[0, 1]] | x f 3,2
index_mask | x[x > 0.5] | x f 4
nonzero | x.nonzero() | x f 4
set_slice | x = x.clone(); x[0] = y; x | x f 2,3; y f 3
set_number | x = x.clone(); x[0] = 0.5; x | x f 2,3
set_mask | x = x.clone(); x[x > 0.5] = 0.5; x | x f 4
set_slice_step | x = x.clone(); x[::2] = y; x | x f 4; y f 2
add_in_place | x = x.clone(); x += y; x | x f 3; y f 3
relu_in_place | F.relu_(x.clone()) | x f 3
fill_in_place | x.clone().fill_(2.0) | x f 3
zero_in_place | x.clone().zero_() | x f 3
copy_in_place | x.clone().copy_(y) | x f 3; y f 3
out_argument | torch.add(x, x, out=y) | x f 3; y f 3
item | x * x.sum().item() | x f 3
branch | x if x.sum() > 0 else -x | x f 3
move_to_cpu | x.cpu() | x f 3
detach | x.detach() + 1 | x f 3
to_half | x.half() | x f 3
to_int | x.int() | x f 3
to_long | x.long() | x f 3
to_bool | x.bool() | x f 3
type_as | x.type_as(y) | x f 3; y f 3
zeros_like | torch.zeros_like(x) + x | x f 3
rand_like | torch.rand_like(x) | x f 3
new_full | x.new_full((2,), 3.0) | x f 3
bernoulli | torch.bernoulli(x) | x f 3
normal | torch.normal(x, y) | x f 3; y f 3
multinomial | torch.multinomial(x, 2) | x f 3
fft | torch.fft.fft(x).real | x f 4
attention | F.scaled_dot_product_attention(x, y, y) | x f 2,3,4; y f 2,3,4
rms_norm_by_hand | x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) | x f 2,3
straight_through | x + (x.round() - x).detach() | x f 3
"""

OTHERS = """
int_add | x + 1 | x i 3
int_true_divide | x / 2 | x i 3
int_floor_divide | x // 2 | x i 3
int_sum | x.sum() | x i 3
int_mean | x.mean() | x i 3
int_cumsum | x.cumsum(0) | x i 3
int_with_float | x + y | x i 3; y f 3
int_with_half | x + y | x i 3; y h 3
bool_add | x + y | x b 3; y b 3
bool_sum | x.sum() | x b 3
bool_not | ~x | x b 3
bool_sub | x - y | x b 3; y b 3
bitwise_and | x & y | x i 3; y i 3
bitwise_and_8 | x & y | x u8 3; y u8 3
bitwise_xor | x ^ y | x b 3; y b 3
bitwise_shift | x << 1 | x i 3
logical_and | torch.logical_and(x, y) | x b 3; y b 3
logical_xor | torch.logical_xor(x, y) | x b 3; y b 3
uint8_to_float | x.float() / 255 | x u8 3
int16 | x + 1 | x i16 3
int8 | x + 1 | x i8 3
double | x + 1 | x d 3
complex | x + 1 | x c 3
one_hot | F.one_hot(x, 4) | x i 3
one_hot_open | F.one_hot(x) | x i 3
bincount | torch.bincount(x, minlength=4) | x i 3
bincount_open | torch.bincount(x) | x i 3
bucketize | torch.bucketize(x, y) | x f 3; y f 4
searchsorted | torch.searchsorted(y, x) | x f 3; y f 4
unique | x.unique() | x i 3
isin | torch.isin(x, y) | x i 3; y i 2
index_of_zero_dim | x[i] | x f 3; i i
floor_divide_half | torch.floor_divide(x, y) | x h 3; y h 3
zeros | x + torch.zeros(3) | x f 3
arange | x + torch.arange(3) | x f 3
randn | x + torch.randn(3) | x f 3
eye | x @ torch.eye(3) | x f 3,3
constant_mask | x + torch.ones(3, 3).triu() | x f 3,3
tensor_of_numbers | x * torch.tensor([1.0, 2.0, 3.0]) | x f 3
size_arithmetic | x / x.shape[0] | x f 3
python_loop | for _ in range(3): x = x * 1.5; x | x f 3
bernoulli_distribution | torch.distributions.Bernoulli(x).sample() | x f 3
normal_distribution | torch.distributions.Normal(x, x).rsample() | x f 3
ctc_loss | F.ctc_loss(x, t, n, m) | x f 5,2,4; t i 2,3; n i 2; m i 2
ctc_loss_none | F.ctc_loss(x, t, n, m, reduction="none") | x f 5,2,4; t i 2,3; n i 2; m i 2
nop | poptorch.nop(x) | x h 3
available_memory | poptorch.set_available_memory(x * 2, 0.5) | x f 3
identity_loss_sum | poptorch.identity_loss(x, "sum") | x h 3
identity_loss_none | poptorch.identity_loss(x, "none") | x f 3
block | with poptorch.Block("a", ipu_id=0): y = x * 2; y + 1 | x f 3
own_backward | Own.apply(x) | x f 3
own_backward_unsupported | OwnUnsupported.apply(x) | x f 3
"""

# modules that forward applies to x, with the inputs
MODULES = """
nn_linear | nn.Linear(3, 4) | x f 2,3
nn_linear_half | nn.Linear(3, 4).half() | x h 2,3
nn_linear_mixed | nn.Linear(3, 4) | x h 2,3
nn_conv2d_mixed | nn.Conv2d(3, 4, 3) | x h 1,3,5,5
nn_conv2d_mixed_no_bias | nn.Conv2d(3, 4, 3, bias=False) | x h 1,3,5,5
nn_batch_norm_mixed | nn.BatchNorm2d(3) | x h 2,3,4,4
nn_batch_norm_no_affine | nn.BatchNorm2d(3, affine=False) | x f 2,3,4,4
nn_batch_norm_eval | nn.BatchNorm2d(3).eval() | x f 2,3,4,4
nn_group_norm_mixed | nn.GroupNorm(3, 6) | x h 2,6,4
nn_instance_norm | nn.InstanceNorm1d(3, affine=True) | x f 2,3,4
nn_instance_norm_tracking | nn.InstanceNorm1d(3, track_running_stats=True) | x f 2,3,4
nn_weight_norm | nn.utils.weight_norm(nn.Linear(3, 4)) | x f 2,3
nn_lstm | nn.LSTM(3, 4) | x f 5,2,3
nn_lstm_two_layers | nn.LSTM(3, 4, num_layers=2) | x f 5,2,3
nn_gru | nn.GRU(3, 4) | x f 5,2,3
nn_rnn | nn.RNN(3, 4) | x f 5,2,3
nn_multihead_attention | Attention() | x f 5,2,4
nn_transformer_layer | nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0) | x f 5,2,4
nn_embedding | nn.Embedding(5, 3) | x i 4
nn_embedding_bag | nn.EmbeddingBag(5, 3) | x i 2,4
nn_prelu | nn.PReLU() | x f 2,3
nn_bilinear_upsample | nn.Upsample(scale_factor=2, mode="bilinear") | x f 1,2,3,3
nn_pixel_unshuffle | nn.PixelUnshuffle(2) | x f 1,1,4,4
nn_sequential | nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2)) | x f 1,3,5,5
"""

# trained once; what comes back is what forward returns. {} is the loss
TRAINED = """
train_cross_entropy | F.cross_entropy(self.w * x, t) | x f 4,3; t i 4
train_identity_loss | poptorch.identity_loss(self.w * x, "mean") | x f 4,3
train_without_loss | (self.w * x).sum() | x f 4,3
train_own_backward | poptorch.identity_loss(Own.apply(self.w * x), "sum") | x f 4,3
train_two_losses | F.mse_loss(self.w * x, x), F.l1_loss(self.w * x, x) | x f 4,3
train_combined_losses | poptorch.identity_loss(F.mse_loss(self.w * x, x) + F.l1_loss(self.w * x, x), "sum") | x f 4,3
train_buffer | self.b.add_(1.0); poptorch.identity_loss(self.w * x + self.b, "sum") | x f 4,3
train_half_weights | poptorch.identity_loss(self.w.half() * x, "sum") | x h 4,3
train_detached | poptorch.identity_loss((self.w * x).detach() + self.w * 0, "sum") | x f 4,3
train_erfinv | poptorch.identity_loss(torch.erfinv(self.w * x), "sum") | x f 4,3
"""

# statements around a training executor t and an inference executor e of the same Linear(3, 2); x is [4, 3]
SEQUENCES = """
run_twice | e(x); e(x)
detach_and_run | e(x); e.detachFromDevice(); e(x)
detach_twice | e(x); e.detachFromDevice(); e.detachFromDevice()
detach_before_compiling | e.detachFromDevice()
attach_before_compiling | e.attachToDevice()
attach_twice | e(x); e.attachToDevice()
detach_and_attach | e(x); e.detachFromDevice(); e.attachToDevice(); e(x)
is_attached | e(x); e.isAttachedToDevice()
is_attached_before | e.isAttachedToDevice()
is_attached_after_detaching | e(x); e.detachFromDevice(); e.isAttachedToDevice()
compile_and_run | e.compile(x); e(x)
weights_to_host | e(x); e.copyWeightsToHost()
weights_to_host_before | e.copyWeightsToHost()
weights_to_host_detached | e(x); e.detachFromDevice(); e.copyWeightsToHost()
weights_to_device | e(x); e.copyWeightsToDevice()
weights_to_device_before | e.copyWeightsToDevice()
weights_to_device_detached | e(x); e.detachFromDevice(); e.copyWeightsToDevice()
load_state_detached | e(x); e.detachFromDevice(); e.load_state_dict(e.state_dict()); e(x)
train_detach_and_read | t(x); t.detachFromDevice(); m.l.weight.detach().clone()
train_detach_to_host | t(x); t.detachFromDevice(); t.copyWeightsToHost()
train_detach_if_needed | t(x); t.detachFromDevice(); t.copyWeightsToHostIfNeeded()
train_detach_state_dict | t(x); t.detachFromDevice(); t.state_dict()["l.weight"]
train_detach_optimizer | t(x); t.detachFromDevice(); t.setOptimizer(torch.optim.SGD(m.parameters(), lr=0.5)); t(x)[1]
train_detach_train | t(x); t.detachFromDevice(); t(x)[1]
train_destroy_train | t(x); t.destroy(); m.l.weight.detach().clone()
infer_while_training | t(x); e(x)
infer_detached_training | t(x); t.detachFromDevice(); e(x)
random_state | t(x); len(t.rng_state) > 1
random_state_before | t.rng_state
random_state_detached | t(x); t.detachFromDevice(); len(t.rng_state) > 1
set_random_state_detached | t(x); s = t.rng_state; t.detachFromDevice(); t.rng_state = s; t(x)[1]
destroy_and_run | e(x); e.destroy(); e(x)
backward_on_an_output | t(x)[1].backward()
other_shape | e(x); e(x[:2])
other_dtype | e(x); e(x.half())
input_with_gradient | e(x.requires_grad_())
"""


def _inputs(text: str) -> Dict[str, List[Any]]:
    inputs = {}
    for part in filter(None, text.split(";")):
        name, dtype, shape = (part.split() + [""])[:3]
        inputs[name] = [dtype, [int(n) for n in shape.split(",") if n]]
    return inputs


def _lines(table: str) -> Iterator[List[str]]:
    for line in filter(str.strip, table.splitlines()):
        yield [part.strip() for part in line.split(" | ")]


def _dtype_variants(name: str, forward: str, inputs: Dict[str, List[Any]]) -> Iterator[Dict[str, Any]]:
    floating = [key for key, (dtype, _) in inputs.items() if dtype == "f"]
    halves = {"f32": [], "f16": floating}
    if len(floating) > 1:
        halves.update(f16_first=floating[:1], f32_first=floating[1:])
    for suffix, half in halves.items():
        changed = {key: ["h" if key in half else dtype, shape] for key, (dtype, shape) in inputs.items()}
        yield {"id": f"{name}-{suffix}", "kind": "inference", "forward": forward, "inputs": changed}


def programs() -> List[Dict[str, Any]]:
    """Every program of the tables: id, kind, what it does and its inputs."""
    found: List[Dict[str, Any]] = []
    for name, forward, inputs in _lines(FLOATING + more.FLOATING):
        found.extend(_dtype_variants(name, forward, _inputs(inputs)))
    tables = (
        ("inference", OTHERS + more.OTHERS),
        ("module", MODULES + more.MODULES),
        ("training", TRAINED + more.TRAINED),
    )
    for kind, table in tables:
        for name, forward, inputs in _lines(table):
            found.append({"id": name, "kind": kind, "forward": forward, "inputs": _inputs(inputs)})
    for name, statements in _lines(SEQUENCES + more.SEQUENCES):
        found.append({"id": name, "kind": "sequence", "forward": statements, "inputs": {"x": ["f", [4, 3]]}})
    ids = [program["id"] for program in found]
    assert len(set(ids)) == len(ids)
    return found
