//! The named variables of a network, in the order in which it was built.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor, Var};

use crate::error::{Error, Mismatch, Result};
use crate::weights::Source;

/// What a variable is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A weight of a convolution or linear layer, or an attention's factor; weight decay applies to
    /// these alone.
    Weight,
    /// A bias.
    Bias,
    /// A scale or shift of a normalisation.
    Norm,
    /// State that is not trained: running means and variances, singular vectors.
    RunningStatistic,
}

/// One variable of a network.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name, unique in the network.
    pub name: String,
    /// Its value. Clones share it.
    pub var: Var,
    /// What it is for.
    pub kind: Kind,
}

/// The variables of one network.
#[derive(Debug)]
pub struct Parameters {
    device: Device,
    dtype: DType,
    list: Mutex<Vec<Parameter>>,
}

impl Parameters {
    /// None yet; a [`crate::Builder`] adds them, in `f32`.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), dtype: DType::F32, list: Mutex::default() }
    }

    /// The same in `f64`, for a network that is to be compared closely with another: in `f32`, an
    /// input of a ReLU that rounds to the other side of 0 moves gradients by percents.
    pub fn in_f64(device: &Device) -> Self {
        Self { dtype: DType::F64, ..Self::new(device) }
    }

    /// Where the variables lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of the variables, which a network's input must have too.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Adds a variable with an initial value, converted to [`dtype`](Self::dtype).
    ///
    /// # Errors
    /// [`Error::Tensor`] if the name is taken.
    pub fn insert(&self, name: &str, kind: Kind, value: &Tensor) -> Result<Var> {
        let mut list = self.lock();
        if list.iter().any(|parameter| parameter.name == name) {
            return Err(candle_core::Error::Msg(format!("two parameters are called {name}")).into());
        }
        let var = Var::from_tensor(&value.to_dtype(self.dtype)?)?;
        list.push(Parameter { name: name.to_owned(), var: var.clone(), kind });
        Ok(var)
    }

    /// Every variable, in order.
    pub fn iter(&self) -> impl Iterator<Item = Parameter> + use<> {
        self.lock().clone().into_iter()
    }

    /// The variable of that name.
    pub fn get(&self, name: &str) -> Option<Parameter> {
        self.iter().find(|parameter| parameter.name == name)
    }

    /// How many numbers are trained.
    pub fn parameter_count(&self) -> usize {
        let trained = self.iter().filter(|parameter| parameter.kind != Kind::RunningStatistic);
        trained.map(|parameter| parameter.var.elem_count()).sum()
    }

    /// The values by name. They share memory with the variables and change with them.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.iter().map(|p| (p.name, p.var.as_detached_tensor())).collect()
    }

    /// Takes over all values, or none. They are read only when all names, shapes and types fit, so that
    /// a file takes no more memory than the network.
    ///
    /// PyTorch's `num_batches_tracked`, which no network here needs, are passed over.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the missing, unexpected and mis-shaped keys, or [`Error::Type`];
    /// nothing has changed then.
    pub fn load(&self, tensors: &impl Source) -> Result<()> {
        self.load_where(tensors, |_| true, |_| false)
    }

    /// Takes over the values of the variables that are `wanted`, or none; keys that may be
    /// `ignored` are not unexpected.
    pub(crate) fn load_where(
        &self,
        tensors: &impl Source,
        wanted: impl Fn(&str) -> bool,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mine: BTreeMap<String, Var> =
            self.iter().filter(|p| wanted(&p.name)).map(|p| (p.name, p.var)).collect();
        let mut mismatch = Mismatch::default();
        for (name, var) in &mine {
            match tensors.about(name) {
                None => mismatch.missing.push(name.clone()),
                Some((_, got)) if got != var.dims() => {
                    let (want, got) = (var.dims().to_vec(), got.to_vec());
                    mismatch.misshaped.push((name.clone(), want, got));
                }
                Some(_) => {}
            }
        }
        let known = |name: &str| {
            mine.contains_key(name) || ignored(name) || name.ends_with(".num_batches_tracked")
        };
        let unexpected = tensors.names().filter(|name| !known(name));
        mismatch.unexpected = unexpected.map(str::to_owned).collect();
        if !mismatch.is_empty() {
            return Err(Error::Mismatch { path: None, mismatch });
        }
        let quantised = mine.keys().find_map(|name| {
            let (dtype, _) = tensors.about(name)?;
            // Types narrower than these are quantised: their scales are stored elsewhere.
            let float = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
            (!float).then(|| (name.clone(), dtype.as_str()))
        });
        if let Some((name, dtype)) = quantised {
            return Err(Error::Type { path: None, name, dtype });
        }
        // Converted before the first variable changes: a failure leaves all as they were.
        let values = mine
            .keys()
            .filter_map(|name| tensors.tensor(name).transpose())
            .map(|tensor| {
                Ok(tensor?.to_dtype(self.dtype)?.to_device(&self.device)?.contiguous()?)
            })
            .collect::<Result<Vec<_>>>()?;
        for (var, value) in mine.values().zip(values) {
            var.set(&value)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Parameter>> {
        // The list is whole after every push; a panic elsewhere does not spoil it.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
