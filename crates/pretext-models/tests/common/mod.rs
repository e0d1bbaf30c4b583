//! Weights that are not stored: a hash of a tensor's name and place, as tests/reference/make.py.

use candle_core::{DType, Device, Tensor};
use pretext_models::Parameters;

/// `count` numbers from -1 to 1.
pub(crate) fn hashed(name: &str, count: usize) -> Vec<f64> {
    let seed = crc32(name.as_bytes());
    (0..count as u32)
        .map(|i| {
            let mut x = i.wrapping_mul(2_654_435_761).wrapping_add(seed);
            x ^= x >> 16;
            x = x.wrapping_mul(0x85EB_CA6B);
            x ^= x >> 13;
            x = x.wrapping_mul(0xC2B2_AE35);
            x ^= x >> 16;
            f64::from(x) / f64::from(1u32 << 31) - 1.0
        })
        .collect()
}

/// A network's input.
pub(crate) fn input(shape: &[usize], dtype: DType) -> Tensor {
    let values = hashed("input", shape.iter().product());
    // Rounded before it is doubled, as everywhere: doubling is exact.
    let values: Vec<f32> = values.into_iter().map(|v| v as f32 * 2.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Gives every variable its value.
pub(crate) fn fill(parameters: &Parameters) {
    for parameter in parameters.iter() {
        let dims = parameter.var.dims();
        let value = Tensor::from_vec(value(&parameter.name, dims), dims, &Device::Cpu).unwrap();
        parameter.var.set(&value.to_dtype(parameters.dtype()).unwrap()).unwrap();
    }
}

/// The value of one tensor of a network.
pub(crate) fn value(name: &str, dims: &[usize]) -> Vec<f32> {
    let values = hashed(name, dims.iter().product());
    let (scale, shift) = match (name.rsplit('.').next().unwrap(), dims.len()) {
        ("gamma", _) => (1e-4, 0.0),
        ("weight_u" | "weight_v", _) => {
            (1.0 / values.iter().map(|v| v * v).sum::<f64>().sqrt(), 0.0)
        }
        ("running_var", _) => (0.3, 1.0),
        ("weight", 1) => (0.2, 0.5),
        (_, 1) => (0.1, 0.0),
        _ => ((6.0 / dims[1..].iter().product::<usize>() as f64).sqrt(), 0.0),
    };
    values.iter().map(|v| (v * scale + shift) as f32).collect()
}

/// The checksum of ISO 3309, as `zlib.crc32`.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}
