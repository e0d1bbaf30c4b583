//! What a run would be of, without running it: recipe, data and code decide its result.

use std::path::Path;

use pretext_data::Dataset;
use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::recipe::{FinetuneRecipe, PretrainRecipe};
use crate::record::Code;
use crate::run;

/// What decides a run's result, besides the weights that fine-tuning begins with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preview {
    /// `pretrain` or `finetune`.
    pub kind: String,
    /// The recipe with all its defaults.
    pub recipe: Value,
    /// The last part of the data set's path.
    pub data: String,
    /// The data's fingerprint, as the record will have it.
    pub fingerprint: String,
    /// What would train.
    pub code: Code,
}

impl Preview {
    /// Of a pretraining.
    ///
    /// # Errors
    /// If the recipe makes no sense or the data set cannot be read.
    pub fn pretraining(recipe: &PretrainRecipe, data: &Path) -> Result<Self> {
        recipe.check()?;
        Self::new("pretrain", recipe, data)
    }

    /// Of a fine-tuning.
    ///
    /// # Errors
    /// If the recipe makes no sense or the data set cannot be read.
    pub fn finetuning(recipe: &FinetuneRecipe, data: &Path) -> Result<Self> {
        recipe.check()?;
        Self::new("finetune", recipe, data)
    }

    fn new(kind: &str, recipe: &impl Serialize, data: &Path) -> Result<Self> {
        let data = Dataset::open(data)?;
        Ok(Self {
            kind: kind.into(),
            recipe: run::value(recipe)?,
            data: run::name(&data),
            fingerprint: run::fingerprint(&data),
            code: Code::this(),
        })
    }
}
