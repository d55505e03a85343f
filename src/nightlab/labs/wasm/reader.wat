;; Frozen: reads a text to the gene, bit by bit, the highest of a byte first, and notes what it thought of each.
;;
;; The text lies in a memory that the gene can't reach: what it has not been told yet, it can't know.
(module
  (import "text" "memory" (memory 1))
  (import "gene" "predict" (func $predict (param i32) (result f32)))

  ;; The text is at 0. How likely the gene thought each of its bits goes to $out, as f32.
  (func (export "read") (param $bytes i32) (param $out i32)
    (local $i i32) (local $bit i32) (local $one f32)
    (local.set $one (call $predict (i32.const -1)))
    (loop $each
      (local.set $bit (i32.and (i32.const 1) (i32.shr_u
        (i32.load8_u (i32.shr_u (local.get $i) (i32.const 3)))
        (i32.sub (i32.const 7) (i32.and (local.get $i) (i32.const 7))))))
      (f32.store (i32.add (local.get $out) (i32.shl (local.get $i) (i32.const 2)))
        (select (local.get $one) (f32.sub (f32.const 1) (local.get $one)) (local.get $bit)))
      (local.set $one (call $predict (local.get $bit)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $i) (i32.shl (local.get $bytes) (i32.const 3))))))
)
