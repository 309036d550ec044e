//! The models, small: each is built from a `VarMap` and run. Those that write text read a few tokens
//! at once, then one more, with what they remember of the others.

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::{Activation, VarBuilder, VarMap};
use candle_transformers::models::stable_diffusion::unet_2d;
use candle_transformers::models::{
    bert, distilbert, gemma2, llama, mistral, phi3, qwen2, qwen3, whisper,
};
use serde_json::json;

use crate::weights::uniform;

const CPU: Device = Device::Cpu;
const BATCH: usize = 2;
const TOKENS: usize = 7;
const VOCABULARY: usize = 96;

/// A model.
pub struct Model {
    pub name: &'static str,
    /// Ops of ours that it must have called.
    pub ops: &'static [&'static str],
    pub outputs: fn(&VarMap) -> Result<Vec<Tensor>>,
}

pub const MODELS: &[Model] = &[
    Model {
        name: "llama",
        ops: &["linear", "rms_norm", "rope", "softmax"],
        outputs: llama,
    },
    Model {
        name: "qwen2",
        ops: &["linear", "rms_norm", "rope", "softmax"],
        outputs: qwen2,
    },
    Model {
        name: "qwen3",
        ops: &["linear", "rms_norm", "rope", "attention"],
        outputs: qwen3,
    },
    Model {
        name: "mistral",
        ops: &["linear", "rms_norm", "rope", "softmax"],
        outputs: mistral,
    },
    Model {
        name: "phi3",
        ops: &["linear", "rms_norm", "rope", "softmax"],
        outputs: phi3,
    },
    Model {
        name: "gemma2",
        ops: &["linear", "rope", "softmax"],
        outputs: gemma2,
    },
    Model {
        name: "bert",
        ops: &["linear", "layer_norm", "softmax"],
        outputs: bert,
    },
    Model {
        name: "distilbert",
        ops: &["linear", "layer_norm", "softmax"],
        outputs: distilbert,
    },
    Model {
        name: "whisper",
        ops: &["linear", "layer_norm", "softmax"],
        outputs: whisper,
    },
    Model {
        name: "stable diffusion",
        ops: &["linear", "layer_norm", "softmax"],
        outputs: stable_diffusion,
    },
];

fn builder(weights: &VarMap) -> VarBuilder<'static> {
    VarBuilder::from_varmap(weights, DType::F32, &CPU)
}

/// Tokens that depend on `name`, one row for each text.
fn tokens(name: &str, texts: usize, count: usize) -> Result<Tensor> {
    let tokens = uniform(name, texts * count);
    let tokens = tokens.map(|it| ((it + 1.) / 2. * VOCABULARY as f64) as u32);
    Tensor::from_iter(tokens, &CPU)?.reshape((texts, count))
}

/// Numbers of this shape.
fn numbers(name: &str, shape: &[usize]) -> Result<Tensor> {
    let numbers = uniform(name, shape.iter().product()).map(|it| it as f32);
    Tensor::from_iter(numbers, &CPU)?.reshape(shape)
}

/// What a model answers to a text, and to one more token.
fn answers(mut model: impl FnMut(&Tensor, usize) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    Ok(vec![
        model(&tokens("text", BATCH, TOKENS)?, 0)?,
        model(&tokens("next", BATCH, 1)?, TOKENS)?,
    ])
}

fn config<T: for<'de> serde::Deserialize<'de>>(json: serde_json::Value) -> Result<T> {
    serde_json::from_value(json).map_err(Error::wrap)
}

fn llama(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = llama::Config {
        hidden_size: 32,
        intermediate_size: 48,
        vocab_size: VOCABULARY,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        use_flash_attn: false,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: 32,
        tie_word_embeddings: false,
    };
    let model = llama::Llama::load(builder(weights), &config)?;
    let mut cache = llama::Cache::new(true, DType::F32, &config, &CPU)?;
    answers(|tokens, at| model.forward(tokens, at, &mut cache))
}

fn qwen2(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = qwen2::Config {
        vocab_size: VOCABULARY,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 32,
        sliding_window: 32,
        max_window_layers: 2,
        tie_word_embeddings: false,
        rope_theta: 10_000.,
        rms_norm_eps: 1e-6,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    };
    let mut model = qwen2::ModelForCausalLM::new(&config, builder(weights))?;
    answers(|tokens, at| model.forward(tokens, at))
}

fn qwen3(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = qwen3::Config {
        vocab_size: VOCABULARY,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        head_dim: 8,
        attention_bias: false,
        num_key_value_heads: 2,
        max_position_embeddings: 32,
        sliding_window: None,
        max_window_layers: 2,
        tie_word_embeddings: false,
        rope_theta: 10_000.,
        rms_norm_eps: 1e-6,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    };
    let mut model = qwen3::ModelForCausalLM::new(&config, builder(weights))?;
    answers(|tokens, at| model.forward(tokens, at))
}

fn mistral(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = mistral::Config {
        vocab_size: VOCABULARY,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        head_dim: None,
        num_key_value_heads: 2,
        hidden_act: Activation::Silu,
        max_position_embeddings: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.,
        sliding_window: Some(4),
        use_flash_attn: false,
    };
    let mut model = mistral::Model::new(&config, builder(weights))?;
    answers(|tokens, at| model.forward(tokens, at))
}

fn phi3(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = phi3::Config {
        vocab_size: VOCABULARY,
        hidden_act: Activation::Silu,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: 32,
        original_max_position_embeddings: None,
        partial_rotary_factor: None,
        tie_word_embeddings: false,
    };
    let mut model = phi3::Model::new(&config, builder(weights))?;
    answers(|tokens, at| model.forward(tokens, at))
}

fn gemma2(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = gemma2::Config {
        attention_bias: false,
        head_dim: 8,
        hidden_activation: Activation::GeluPytorchTanh,
        hidden_size: 32,
        intermediate_size: 48,
        num_attention_heads: 4,
        num_hidden_layers: 2,
        num_key_value_heads: 2,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.,
        vocab_size: VOCABULARY,
        final_logit_softcapping: Some(30.),
        attn_logit_softcapping: Some(50.),
        query_pre_attn_scalar: 8,
        sliding_window: None,
        max_position_embeddings: 32,
    };
    let mut model = gemma2::Model::new(false, &config, builder(weights))?;
    answers(|tokens, at| model.forward(tokens, at))
}

fn bert(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config: bert::Config = config(json!({
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 48, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "max_position_embeddings": 32, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }))?;
    let model = bert::BertForMaskedLM::load(builder(weights), &config)?;
    let tokens = tokens("text", BATCH, TOKENS)?;
    let types = (&tokens / 50.)?.to_dtype(DType::U32)?;
    Ok(vec![model.forward(&tokens, &types, None)?])
}

fn distilbert(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config: distilbert::Config = config(json!({
        "vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
        "activation": "gelu", "max_position_embeddings": 32, "initializer_range": 0.02,
        "pad_token_id": 0,
    }))?;
    let model = distilbert::DistilBertForMaskedLM::load(builder(weights), &config)?;
    let tokens = tokens("text", BATCH, TOKENS)?;
    // 1 hides a position: here the last of each text.
    let mask = (0..TOKENS).map(|at| u8::from(at + 1 == TOKENS));
    let mask = Tensor::from_iter(mask, &CPU)?.reshape((1, 1, 1, TOKENS))?;
    let mask = mask.broadcast_as((BATCH, 4, TOKENS, TOKENS))?;
    Ok(vec![model.forward(&tokens, &mask)?])
}

fn whisper(weights: &VarMap) -> Result<Vec<Tensor>> {
    let config = whisper::Config {
        num_mel_bins: 8,
        max_source_positions: 12,
        d_model: 32,
        encoder_attention_heads: 4,
        encoder_layers: 2,
        vocab_size: VOCABULARY,
        max_target_positions: 16,
        decoder_attention_heads: 4,
        decoder_layers: 2,
        suppress_tokens: Vec::new(),
    };
    // One, as the gradient of a conv1d's weight is wrong for more, in candle-core 0.11.1.
    let mut model = whisper::model::Whisper::load(&builder(weights), config)?;
    let sound = model
        .encoder
        .forward(&numbers("sound", &[1, 8, 24])?, true)?;
    let text = model
        .decoder
        .forward(&tokens("text", 1, TOKENS)?, &sound, true)?;
    Ok(vec![model.decoder.final_linear(&text)?])
}

fn stable_diffusion(weights: &VarMap) -> Result<Vec<Tensor>> {
    let block = |out_channels, use_cross_attn| unet_2d::BlockConfig {
        out_channels,
        use_cross_attn,
        attention_head_dim: 4,
    };
    let config = unet_2d::UNet2DConditionModelConfig {
        blocks: vec![block(32, Some(1)), block(64, None)],
        layers_per_block: 1,
        norm_num_groups: 8,
        cross_attention_dim: 24,
        ..Default::default()
    };
    let model = unet_2d::UNet2DConditionModel::new(builder(weights), 4, 4, false, config)?;
    let (image, text) = (
        numbers("image", &[1, 4, 8, 8])?,
        numbers("words", &[1, 5, 24])?,
    );
    Ok(vec![model.forward(&image, 0.5, &text)?])
}
