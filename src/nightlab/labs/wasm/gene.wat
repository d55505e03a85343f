;; The genome: a language model in WebAssembly. It predicts a text bit by bit, and learns as it reads.
;;
;; Each context (the last 0, 1, 2, ... bytes), with the bits of this byte so far, is hashed to a weight in a table. The
;; sum of the weights is the log-odds that the next bit is 1; then each weight moves to where that would have been
;; less wrong. That is logistic regression, online.
(module
  ;; What whoever runs it may count on, and holds it to: score.py.
  (@custom "nightlab.version" "1")
  (@custom "nightlab.phenotype" "{\"domain\": \"text.predict\", \"exports\": {\"predict\": \"(i32) -> f32\"}}")
  (@custom "nightlab.constraints" "{\"memory_bytes\": 4194304, \"imports\": []}")
  (@custom "nightlab.metering" "{\"fuel\": 12000}")

  ;; Constants: edit these. The bracket that ends a line says how far the tuner may go.
  (global $ORDERS i32 (i32.const 2))   ;; how many contexts: the last 0 to ORDERS - 1 bytes [1..7]
  (global $BITS i32 (i32.const 14))    ;; of a hash: 2^BITS weights are in the table [10..18]
  (global $RATE f32 (f32.const 0.1))   ;; how far a weight moves [0.01..2 log]

  (memory 64 64)                          ;; pages of 64 KiB: 256 bytes of addresses, then the weights, f32
  (global $so_far (mut i32) (i32.const 1))   ;; the bits of this byte, after a leading 1
  (global $past (mut i64) (i64.const 0))     ;; the last eight bytes, the latest lowest
  (global $odds (mut f32) (f32.const 0))     ;; what was predicted last

  ;; Told the bit that came (-1 before the first), it answers how likely it is that the next one is 1.
  (func (export "predict") (param $bit i32) (result f32)
    (local $n i32)
    (if (i32.ge_s (local.get $bit) (i32.const 0)) (then
      (call $learn (local.get $bit))
      (call $advance (local.get $bit))))
    (global.set $odds (f32.const 0))
    (loop $each
      (call $find (local.get $n))
      (global.set $odds (f32.add (global.get $odds) (f32.load (call $weight (local.get $n)))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $n) (global.get $ORDERS))))
    (call $chance (global.get $odds)))

  (func $learn (param $bit i32)
    (local $n i32) (local $at i32) (local $error f32)
    ;; From -1, it was sure of a 1 and a 0 came, to 1.
    (local.set $error (f32.sub (f32.convert_i32_u (local.get $bit)) (call $chance (global.get $odds))))
    (loop $each
      (local.set $at (call $weight (local.get $n)))
      (f32.store (local.get $at)
        (f32.add (f32.load (local.get $at)) (f32.mul (global.get $RATE) (local.get $error))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $n) (global.get $ORDERS)))))

  (func $advance (param $bit i32)
    (global.set $so_far (i32.or (i32.shl (global.get $so_far) (i32.const 1)) (local.get $bit)))
    (if (i32.ge_u (global.get $so_far) (i32.const 256)) (then
      (global.set $past (i64.or (i64.shl (global.get $past) (i64.const 8))
                                (i64.extend_i32_u (i32.and (global.get $so_far) (i32.const 255)))))
      (global.set $so_far (i32.const 1)))))

  ;; Where the weight of context $n is, as $find has left it.
  (func $weight (param $n i32) (result i32)
    (i32.load (i32.shl (local.get $n) (i32.const 2))))

  (func $find (param $n i32)
    (local $hash i64)
    (if (local.get $n) (then  ;; the last $n bytes, shifted to the top
      (local.set $hash (i64.shl (global.get $past)
        (i64.extend_i32_u (i32.sub (i32.const 64) (i32.shl (local.get $n) (i32.const 3))))))))
    (local.set $hash (i64.mul (i64.const 0x9E3779B97F4A7C15) (i64.add (local.get $hash)
      (i64.extend_i32_u (i32.or (global.get $so_far) (i32.shl (local.get $n) (i32.const 8)))))))
    (local.set $hash (i64.mul (i64.const 0xBF58476D1CE4E5B9)
      (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 29)))))
    (local.set $hash (i64.shr_u (local.get $hash) (i64.extend_i32_u (i32.sub (i32.const 64) (global.get $BITS)))))
    (i32.store (i32.shl (local.get $n) (i32.const 2))
      (i32.add (i32.const 256) (i32.shl (i32.wrap_i64 (local.get $hash)) (i32.const 2)))))

  ;; 1 / (1 + e^-x). WebAssembly has no e^x: (1 - x/256)^256 is near enough.
  (func $chance (param $x f32) (result f32)
    (local $e f32) (local $times i32)
    (local.set $e (f32.sub (f32.const 1) (f32.div
      (f32.max (f32.const -20) (f32.min (f32.const 20) (local.get $x))) (f32.const 256))))
    (loop $squared
      (local.set $e (f32.mul (local.get $e) (local.get $e)))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $squared (i32.lt_u (local.get $times) (i32.const 8))))
    (f32.div (f32.const 1) (f32.add (f32.const 1) (local.get $e))))
)
