;; Convolutions of exact.js with SIMD. An activation is 1024 * high + low, which have 16 bits each;
;; they lie in blocks of 8 channels, first 8 high, then 8 low. A product with weights of 16 bits and
;; the sum of a whole window have 32 bits, for the weights that exact.js sends here.
(module
  (memory (export "memory") 1)

  (func $total (param $sums v128) (result i64)
    (i64.extend_i32_s
      (i32.add
        (i32.add
          (i32x4.extract_lane 0 (local.get $sums)) (i32x4.extract_lane 1 (local.get $sums)))
        (i32.add
          (i32x4.extract_lane 2 (local.get $sums)) (i32x4.extract_lane 3 (local.get $sums))))))

  ;; R of the format: (1024 * high + low) / 4096 + bias, rounded and clipped
  (func $store (param $at i32) (param $high v128) (param $low v128) (param $bias i32)
    (local $x i64)
    (local.set $x
      (i64.add
        (i64.extend_i32_s (local.get $bias))
        (i64.shr_s
          (i64.add
            (i64.add
              (i64.shl (call $total (local.get $high)) (i64.const 10))
              (call $total (local.get $low)))
            (i64.const 2048))
          (i64.const 12))))
    (if (i64.gt_s (local.get $x) (i64.const 1048576))
      (then (local.set $x (i64.const 1048576))))
    (if (i64.lt_s (local.get $x) (i64.const -1048576))
      (then (local.set $x (i64.const -1048576))))
    (i32.store (local.get $at) (i32.wrap_i64 (local.get $x))))

  ;; For each of $cells windows, an even number, $outs sums, an even number. A window begins at its
  ;; of the addresses at $places and is $runs runs of $run bytes, $stride apart. The weights of an
  ;; output are as many runs, of half as many bytes, without gaps. $biases and $result are i32.
  (func (export "convolve")
    (param $places i32) (param $cells i32) (param $weights i32) (param $biases i32)
    (param $outs i32) (param $runs i32) (param $run i32) (param $stride i32) (param $result i32)
    (local $place i32) (local $last i32) (local $row i32) (local $out i32) (local $left i32)
    (local $size i32) (local $first i32) (local $second i32) (local $end i32) (local $gap i32)
    (local $v i32) (local $w i32)
    (local $a v128) (local $b v128) (local $x v128)
    (local $av v128) (local $aw v128) (local $bv v128) (local $bw v128)
    (local $cv v128) (local $cw v128) (local $dv v128) (local $dw v128)
    (local.set $size (i32.shr_u (i32.mul (local.get $runs) (local.get $run)) (i32.const 1)))
    (local.set $gap (i32.sub (local.get $stride) (local.get $run)))
    (local.set $row (i32.shl (local.get $outs) (i32.const 2)))
    (local.set $place (local.get $places))
    (local.set $last (i32.add (local.get $places) (i32.shl (local.get $cells) (i32.const 2))))
    (loop $pairs
      (local.set $w (local.get $weights))
      (local.set $out (i32.const 0))
      (loop $outputs
        (local.set $v (local.get $w))
        (local.set $w (i32.add (local.get $v) (local.get $size)))
        (local.set $first (i32.load (local.get $place)))
        (local.set $second (i32.load offset=4 (local.get $place)))
        (local.set $av (v128.const i32x4 0 0 0 0))
        (local.set $aw (local.get $av)) (local.set $bv (local.get $av))
        (local.set $bw (local.get $av)) (local.set $cv (local.get $av))
        (local.set $cw (local.get $av)) (local.set $dv (local.get $av))
        (local.set $dw (local.get $av))
        (local.set $left (local.get $runs))
        (loop $windows
          (local.set $end (i32.add (local.get $first) (local.get $run)))
          (loop $blocks
            (local.set $a (v128.load (local.get $v)))
            (local.set $b (v128.load (local.get $w)))
            (local.set $x (v128.load (local.get $first)))
            (local.set $av (i32x4.add (local.get $av)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $a))))
            (local.set $aw (i32x4.add (local.get $aw)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $b))))
            (local.set $x (v128.load offset=16 (local.get $first)))
            (local.set $bv (i32x4.add (local.get $bv)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $a))))
            (local.set $bw (i32x4.add (local.get $bw)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $b))))
            (local.set $x (v128.load (local.get $second)))
            (local.set $cv (i32x4.add (local.get $cv)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $a))))
            (local.set $cw (i32x4.add (local.get $cw)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $b))))
            (local.set $x (v128.load offset=16 (local.get $second)))
            (local.set $dv (i32x4.add (local.get $dv)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $a))))
            (local.set $dw (i32x4.add (local.get $dw)
              (i32x4.dot_i16x8_s (local.get $x) (local.get $b))))
            (local.set $v (i32.add (local.get $v) (i32.const 16)))
            (local.set $w (i32.add (local.get $w) (i32.const 16)))
            (local.set $second (i32.add (local.get $second) (i32.const 32)))
            (br_if $blocks (i32.lt_u
              (local.tee $first (i32.add (local.get $first) (i32.const 32))) (local.get $end))))
          (local.set $first (i32.add (local.get $first) (local.get $gap)))
          (local.set $second (i32.add (local.get $second) (local.get $gap)))
          (br_if $windows (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (local.set $first (i32.add (local.get $biases) (i32.shl (local.get $out) (i32.const 2))))
        (local.set $second (i32.add (local.get $result) (i32.shl (local.get $out) (i32.const 2))))
        (call $store (local.get $second) (local.get $av) (local.get $bv)
          (i32.load (local.get $first)))
        (call $store (i32.add (local.get $second) (i32.const 4)) (local.get $aw) (local.get $bw)
          (i32.load offset=4 (local.get $first)))
        (local.set $second (i32.add (local.get $second) (local.get $row)))
        (call $store (local.get $second) (local.get $cv) (local.get $dv)
          (i32.load (local.get $first)))
        (call $store (i32.add (local.get $second) (i32.const 4)) (local.get $cw) (local.get $dw)
          (i32.load offset=4 (local.get $first)))
        ;; $w stands at the end of the second output's weights
        (br_if $outputs (i32.lt_u
          (local.tee $out (i32.add (local.get $out) (i32.const 2))) (local.get $outs))))
      (local.set $result (i32.add (local.get $result) (i32.shl (local.get $row) (i32.const 1))))
      (br_if $pairs (i32.lt_u
        (local.tee $place (i32.add (local.get $place) (i32.const 8))) (local.get $last))))))
